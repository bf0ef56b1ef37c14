"""Completion of the command line, in bash itself."""

import shutil
import subprocess

import pytest

SCRIPTS = {
    "bash": (".local/share/bash-completion/completions/d2csr", ".bashrc"),
    "zsh": (".zsh/completions/_cyclopts_d2csr", ".zshrc"),
    "fish": (".config/fish/completions/d2csr.fish", None),
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return an empty home folder, with no shell known."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ZSH", "ZSH_CUSTOM"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_of_a_shell_is_installed_and_loaded(d2csr, home, shell):
    answer = d2csr("--install-completion", "--shell", shell)
    script, startup = SCRIPTS[shell]
    path = home / script
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"Start a new shell to complete with Tab. The script: {path}\n"
    assert "upscale" in path.read_text()
    assert "--outscale" in path.read_text()
    if startup is not None:
        assert (
            script in (home / startup).read_text()
            or str(path.parent) in (home / startup).read_text()
        )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("d2csr ups", {"upscale"}),
        ("d2csr data ", {"bicubic", "check", "import"}),
        ("d2csr upscale --outs", {"--outscale"}),
        ("d2csr upscale --ext ", {"png", "jpg", "webp", "tif", "avif", "same"}),
    ],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(d2csr, home, words, expected):
    d2csr("--install-completion", "--shell", "bash")
    code = f"""
source {home / SCRIPTS["bash"][0]}
COMP_LINE={words!r}; COMP_POINT=${{#COMP_LINE}}
read -ra COMP_WORDS <<< "$COMP_LINE"
[[ $COMP_LINE == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
$(complete -p d2csr | sed -E 's/.*-F ([^ ]+).*/\\1/')
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert expected <= {line.strip() for line in done.stdout.splitlines()}, done


def test_a_shell_that_is_not_known_is_an_error_in_one_line(d2csr, home, monkeypatch):
    def unknown() -> None:
        raise ShellDetectionError("none")

    from cyclopts.completion.detect import ShellDetectionError

    monkeypatch.setattr("cyclopts.completion.detect.detect_shell", unknown)
    answer = d2csr("--install-completion")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert "Name it: d2csr --install-completion --shell bash, zsh or fish." in answer.err


def test_a_home_that_cannot_be_written_is_an_error_in_one_line(d2csr, home):
    (home / ".config").write_text("a file")
    answer = d2csr("--install-completion", "--shell", "fish")
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert "can't be written" in answer.err
