// SPDX-License-Identifier: Apache-2.0
// Texts that stand out from their ground by less than 4.5 to 1, as WCAG 2 counts.
() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const over = (colors) => {
    context.clearRect(0, 0, 1, 1);
    for (const color of colors) {
      context.fillStyle = color;
      context.fillRect(0, 0, 1, 1);
    }
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const linear = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = (pixel) => {
    const [r, g, b] = pixel.map((value) => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *:not(script):not(option)")) {
    const isText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!isText || !element.checkVisibility() || element.closest("[aria-disabled=true]")) continue;
    const grounds = ["white"];
    for (let one = element; one; one = one.parentElement) {
      grounds.splice(1, 0, getComputedStyle(one).backgroundColor);
    }
    const inked = light(over([...grounds, getComputedStyle(element).color]));
    const [low, high] = [light(over(grounds)), inked].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) poor.push(`${element.className || element.tagName}: ${ratio.toFixed(2)}`);
  }
  return poor;
}
