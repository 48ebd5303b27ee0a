# SPDX-License-Identifier: Apache-2.0
"""Creates a virtual environment with this project installed from a wheel.

It needs the standard library only, because it runs first (``make demo``, ``make test``). It installs uv into
the environment, and uv does the rest. If the requirements have not changed, it keeps the environment and
reinstalls the wheel only.

    python3 tools/environment.py .venv --group airflow --group test
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
STAMP = ".bgrep-requirements"


def python_of(venv: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return venv / "bin" / "python"


def run(*command: object) -> None:
    """Run a command; exit with an error if it fails."""
    words = [str(word) for word in command]
    status = subprocess.run(words, cwd=ROOT, check=False).returncode
    if status:
        sys.exit(f"\nSetting up the environment failed (exit status {status}):\n  {' '.join(words)}")


def create(venv: Path) -> None:
    """Create an empty environment with uv."""
    shutil.rmtree(venv, ignore_errors=True)
    venv.parent.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("ensurepip") is not None:
        run(sys.executable, "-m", "venv", venv)
        run(python_of(venv), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv>=0.8")
    elif uv := shutil.which("uv"):
        run(uv, "venv", "--quiet", "--python", sys.executable, venv)
        run(uv, "pip", "install", "--quiet", "--python", python_of(venv), "uv>=0.8")
    else:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(
            f"{sys.executable} cannot create virtual environments: it has no ensurepip module.\n"
            f"On Debian and Ubuntu, install it with: apt install python{version}-venv\n"
            "(or put uv on the PATH). Then run the same command again."
        )


def build_wheel(uv: Path, out: Path) -> Path:
    """Build the wheel into a directory, and remove anything else in it."""
    shutil.rmtree(out, ignore_errors=True)
    run(uv, "build", "--quiet", "--wheel", "--out-dir", out)
    return next(out.glob("*.whl"))


def prepare(
    venv: Path,
    *,
    groups: Sequence[str] = (),
    extras: Sequence[str] = (),
    requirements: Sequence[str] = (),
    before: str | None = None,
) -> Path:
    """Create or update an environment and install the wheel of this source tree into it.

    :param venv: folder of the environment.
    :param groups: dependency groups of ``pyproject.toml`` to install.
    :param extras: extras of this package to install.
    :param requirements: further requirements, such as ``apache-airflow==2.11.*``.
    :param before: use no release after this date (``YYYY-MM-DD``).
    :return: the environment's Python.
    """
    requested = repr((sys.version, sorted(groups), sorted(extras), sorted(requirements), before))
    wanted = hashlib.sha256(requested.encode() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = venv / STAMP
    known = stamp.read_text() if stamp.is_file() else ""
    uv = venv / "bin" / "uv"
    if not (uv.exists() and python_of(venv).exists()):
        create(venv)
        known = ""
    wheel = build_wheel(uv, venv / "wheel")
    this = f"airflow-provider-bgrep{'[' + ','.join(extras) + ']' if extras else ''} @ {wheel.as_uri()}"
    install = [uv, "pip", "install", "--quiet", "--python", python_of(venv)]
    if known == wanted:
        run(*install, "--no-deps", "--reinstall-package", "airflow-provider-bgrep", this)
        return python_of(venv)
    stamp.unlink(missing_ok=True)
    limits = ["--exclude-newer", before] if before else []
    from_groups = [word for group in groups for word in ("--group", f"{ROOT / 'pyproject.toml'}:{group}")]
    run(*install, *limits, "--reinstall-package", "airflow-provider-bgrep", *from_groups, *requirements, this)
    stamp.write_text(wanted)
    return python_of(venv)


def main() -> None:
    """Prepare the environment that the command line names."""
    if sys.version_info < OLDEST:
        sys.exit(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, this is {sys.version.split()[0]}.")
    if os.name != "posix":
        sys.exit("Airflow runs on Linux and macOS only (on Windows: in WSL).")
    parser = argparse.ArgumentParser(description="Create a virtual environment with this project's wheel.")
    parser.add_argument("venv", type=Path)
    parser.add_argument("--group", action="append", default=[])
    parser.add_argument("--extra", action="append", default=[])
    parser.add_argument("--require", action="append", default=[])
    parser.add_argument("--before")
    args = parser.parse_args()
    prepare(
        args.venv.absolute(),
        groups=args.group,
        extras=args.extra,
        requirements=args.require,
        before=args.before,
    )


if __name__ == "__main__":
    main()
