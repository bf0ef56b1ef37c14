"""Examples of every command, printed at the end of its help and of the command reference.

Separate so that they can be read, and tested, side by side.
"""

from collections.abc import Mapping, Sequence
from typing import Final

# By the words of a command. Lines are at most 76 characters long, so that 80 columns hold them.
EXAMPLES: Final[Mapping[str, Sequence[str]]] = {
    "": (
        "d2csr upscale photo.jpg           # photo_x2.jpg beside it",
        "d2csr upscale photos/ -s 4        # every photograph of a folder",
        "d2csr upscale --help              # options and examples of a command",
    ),
    "upscale": (
        "d2csr upscale photo.jpg           # photo_x2.jpg beside it",
        "d2csr upscale *.jpg holiday/ -s 4 # files and folders, four times",
        "d2csr upscale photo.jpg --width 3000 --quality 90",
        "d2csr upscale photo.jpg --compare html  # and a page with a slider",
        "d2csr upscale photos/ -o enlarged/ --ext png --memory 2GiB",
        "d2csr upscale photos/ -o enlarged/ -n runs/mine --resume",
    ),
    "app": (
        "d2csr app                         # opens the page in the browser",
        "d2csr app -n runs/mine --no-browser --port 8000",
    ),
    "evaluate": (
        "d2csr evaluate -n photo-x2 -n lanczos --data pairs/",
        "d2csr evaluate -n runs/mine --data pairs/ --calibration --csv scores.csv",
    ),
    "calibrate": ("d2csr calibrate -n runs/mine --data pairs/ -o my-model",),
    "train": (
        "d2csr train --example             # recipes to start from",
        "d2csr train --example your_own_camera > mine.yaml",
        "d2csr train mine.yaml -o runs/mine --data pairs/",
        "d2csr train mine.yaml -o runs/mine --data pairs/ --resume",
    ),
    "export": (
        "d2csr export runs/mine -o my-model",
        "d2csr export photo-x2 --to ncnn -o exported",
    ),
    "align": (
        "d2csr align photographs/ -o pairs/ --scale 4",
        "d2csr align wide.jpg tele.jpg -o pairs/ --scale 2",
    ),
    "simulate": (
        "d2csr simulate -i photos/ -o pairs/ -s 2 --preset phone",
        "d2csr simulate -i photos/ -o captures/ -s 4 --captures",
    ),
    "models": ("d2csr models",),
    "benchmark": ("d2csr benchmark -n photo-x2 --size 256x256 --chart speed.png",),
    "doctor": ("d2csr doctor",),
    "data check": ("d2csr data check pairs/",),
    "data bicubic": ("d2csr data bicubic photos/ -o pairs/ -s 2",),
    "data import city100": ("d2csr data import city100 CameraSR/ -o city100/",),
    "convert official": ("d2csr convert official checkpoint.pkl -o converted/",),
    "convert system": ("d2csr convert system edsr weights.pt -o converted/ --set res_scale=0.1",),
    "suite run": (
        "d2csr suite run rates.yaml -o runs/rates",
        "d2csr suite run rates.yaml -o runs/rates --workers 2",
        "d2csr suite run rates.yaml -o /shared/rates --executor ray",
    ),
    "suite table": (
        "d2csr suite table runs/rates",
        "d2csr suite table runs/rates --format csv -o rates.csv",
    ),
    "suite figure": ("d2csr suite figure runs/rates -o rates.png",),
    "paper": (
        "d2csr paper                       # what can be made",
        "d2csr paper table1 --data sets/ -n d2c-sr=runs/mine -o paper/",
        "d2csr paper figure7 --suite runs/ablations -o paper/",
        "d2csr paper table3 -o paper/      # trains the suite first: hours",
    ),
    "--install-completion": (
        "d2csr --install-completion",
        "d2csr --install-completion --shell zsh",
    ),
}


def describe_examples(command: str) -> str:
    """Return the examples of a command as text or Markdown; empty without any."""
    lines = EXAMPLES.get(command) or _of_group(command)
    return "\n".join(("Examples:", "", *(f"    {line}" for line in lines))) if lines else ""


def _of_group(group: str) -> Sequence[str]:
    """Return the examples of all commands of a group, such as `data`."""
    members = (lines for name, lines in EXAMPLES.items() if name.startswith(f"{group} "))
    return [line for lines in members for line in lines]
