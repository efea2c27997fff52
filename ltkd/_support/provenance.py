"""Hardware, versions and commit, as they are stored with each result."""

import platform
import subprocess

import torch

from .storage import checkout


def hardware(device: torch.device) -> dict[str, str | int]:
    """The machine and the versions: {"device", "threads", "torch", "python"}."""
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": f"{device.type}: {chip}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def commit() -> str | None:
    """The commit of the checkout that holds this package, with '+' if files were changed; None outside a checkout."""
    if checkout() is None:
        return None
    git = ["git", "-C", str(checkout())]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
