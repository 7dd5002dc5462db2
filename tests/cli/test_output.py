"""Results: places are taken before the work, nothing is overwritten; and consoles of all kinds."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rwkv_np.cli.common import UsageError, command_line
from rwkv_np.cli.main import main
from rwkv_np.cli.output import new_folder, reserve

ROOT = Path(__file__).parents[2]


def test_folders_chosen_at_the_same_time_differ(tmp_path):
    taken, start = [], threading.Barrier(8)

    def take():
        start.wait()
        with new_folder("--out", str(tmp_path / "m"), "out/m") as folder:
            taken.append(folder.name)
            start.wait()                                # all are inside

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == ["m", *(f"m-{n}" for n in range(2, 9))]
    assert list(tmp_path.iterdir()) == []               # they stayed empty, so they are gone


def test_default_folders_are_made_with_their_parents_and_go_if_unused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with new_folder("--out", None, "out/model") as folder:
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []
    with new_folder("--out", None, "out/model") as folder:
        (folder / "file").touch()
    assert (tmp_path / "out/model/file").exists()
    for wrong in (".", "..", "", "/"):
        with pytest.raises(UsageError, match="must name a new folder"), new_folder("--out", wrong, "out/model"):
            pass


def test_reserved_places_are_kept_if_used_and_given_back_if_not(tmp_path, monkeypatch):
    for folder in (False, True):
        path = tmp_path / "place"
        with pytest.raises(RuntimeError), reserve("OUT", str(path), folder=folder):
            assert path.exists()
            with pytest.raises(UsageError, match="OUT: .*place exists; name a new"), reserve("OUT", str(path)):
                pass
            raise RuntimeError
        assert not path.exists()
    with reserve("OUT", str(path)):
        path.write_text("result")
    assert path.read_text() == "result"
    monkeypatch.setattr(os.path, "lexists", lambda path: False)        # another command was faster by a moment
    with pytest.raises(UsageError, match="place exists; name a new file"), reserve("OUT", str(path)):
        pass
    assert path.read_text() == "result"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_folders_that_are_read_only_are_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        for place in (new_folder("--out", str(tmp_path / "m"), "out/m"), reserve("OUT", str(tmp_path / "m"))):
            with pytest.raises(UsageError, match="is read-only"), place:
                pass
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("arguments", [
    ["train", "--out", "{}/no/m"], ["demo", "--out", "{}/no/m"], ["cost", "--quick", "--out", "{}/no/m"],
    ["convert", "{}/no/m.pth"], ["convert", "{}/no/m"], ["generate", "--save-state", "{}/no/m"],
    ["vectors", "{}/no/m"]])
def test_a_missing_folder_is_an_error_before_any_work(arguments, tmp_path, capsys):
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and f"there is no folder {tmp_path}/no" in err
    assert ".part" not in err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["m.gguf", "m.pt", "m.bin", "m.ckpt", "m.PTH", "m.Safetensors"])
def test_convert_refuses_what_looks_like_a_file(name, tmp_path, capsys):
    assert main(["convert", str(tmp_path / name)]) == 2
    assert "must end in .pth or .safetensors, or name a folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_names_of_folders_are_folders(tmp_path, capsys):
    for name in ("rwkv-4-1.5b", "model.v2", "plain/"):
        assert main(["convert", f"{tmp_path}/{name}", "--dtype", "float16"]) == 0
        assert (tmp_path / name / "config.json").exists()


# Consoles

def test_what_a_console_cannot_show_is_replaced(program, tmp_path):
    prompt = ["generate", "--max-new-tokens", "2", "--prompt", "é→😀"]
    for encoding in ("ascii", "cp1252", "utf-8"):
        code, out, err = program(*prompt, env=os.environ | {"PYTHONIOENCODING": encoding})
        assert (code, err) == (0, "")
        assert out.startswith("é→😀".encode(encoding, "replace"))
    code, out, err = program("info", "--model", "no-→-where", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert code == 2 and "no-?-where" in err


@pytest.mark.skipif(sys.platform == "win32", reason="pipes close differently on Windows")
@pytest.mark.parametrize("arguments", [["info"], ["generate", "--max-new-tokens", "30000"], ["--help"]])
def test_a_closed_pipe_ends_the_program_quietly(arguments):
    with subprocess.Popen([sys.executable, "-m", "rwkv_np", *arguments], cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        if "generate" in arguments:                     # while it writes; the others write at their end
            process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_finds_no_room_is_an_error():
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "rwkv_np", "info"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE,
                              text=True)
    assert done.returncode == 2 and "No space left on device" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="programs are found differently on Windows")
def test_the_program_is_named_as_it_was_called(tmp_path, monkeypatch, capsys):
    script = tmp_path / "rwkv-np"                       # as pip makes one
    script.write_text(f"#!{sys.executable}\nimport sys; from rwkv_np.cli.main import main; sys.exit(main())\n")
    script.chmod(0o700)
    assert 'rwkv-np = "rwkv_np.cli.main:main"' in (ROOT / "pyproject.toml").read_text()
    done = subprocess.run([script, "--help"], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True, check=True)
    assert done.stdout.startswith("usage: rwkv-np ")
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command_line("info") == "rwkv-np info"
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path.parent)
    assert command_line("info") == f"{tmp_path.name}/rwkv-np info"


def test_printed_commands_are_quoted_and_can_be_run(program, tmp_path, capsys):
    folder = tmp_path / "it's here; $HOME"
    folder.mkdir()
    (folder / "t.txt").write_text("abcdefgh" * 60)      # without a new line
    assert main(["train", "--text", str(folder / "t.txt"), "--out", str(folder / "m"), "--max-steps", "2",
                 "--d-model", "8", "--n-layer", "1", "--context-length", "8", "--workers", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()[-1].removeprefix("now: ")
    done = subprocess.run(printed, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout) > 100, done.stderr
    assert command_line("generate", "--prompt", "A class ").endswith("generate --prompt 'A class '")
