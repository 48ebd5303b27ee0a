# SPDX-License-Identifier: Apache-2.0
"""What was submitted: an intent before each attempt, the job's key after it."""
