"""The env files of volumes: which lines say what, and which files are read at all."""

from __future__ import annotations

import os
import pathlib
import re

import pytest

from supervisor.runtime import env_files, volume_files


@pytest.mark.parametrize(
    ("content", "value"),
    [
        pytest.param(b"K='v'", b"v", id="without a last newline"),
        pytest.param(b"K='v'\r\n", b"v", id="lines of other systems"),
        pytest.param(b"\n \t\n# K='c'\n  # x\n \tK='v'\n", b"v", id="blanks and comments"),
        pytest.param(b"K='v' # why\n", b"v", id="a comment after the value"),
        pytest.param(b"K='v'#why\n", b"v", id="also close to it"),
        pytest.param(b"K='a # b'\n", b"a # b", id="no comment within the value"),
        pytest.param(b"K='\\n \"x\" $Y $(Z) `w` '\n", b'\\n "x" $Y $(Z) `w` ', id="literally"),
        pytest.param(b"K='a=b'\n", b"a=b", id="an equals sign"),
        pytest.param(b"K='a\n b\r\n\n# c'\n", b"a\n b\n\n# c", id="several lines"),
        pytest.param(b"M='\nK=no\n'\nK='v'\n", b"v", id="lines of another value are not looked at"),
        pytest.param(b"K='1'\nK='2'\n", b"1", id="the first of two"),
        pytest.param(b"K='v'\nwrong\n", b"v", id="what is wrong after it does no harm"),
        pytest.param(b"KK='1'\nk='2'\n", b"", id="another name"),
        pytest.param(b"K= 'v'\nK='w'\n", b"", id="a blank after the equals sign"),
        pytest.param(b"export K='v'\n", b"", id="a word before the name is part of it"),
        pytest.param(b"K=''\n", b"", id="nothing"),
        pytest.param(b"", b"", id="an empty file"),
        pytest.param(b"X='" + 65531 * b"x" + b"'\nK='v'\n", b"v", id="the longest line"),
    ],
)
def test_a_value_stands_in_single_quotes_and_means_itself(content: bytes, value: bytes):
    """§9.1.3"""
    assert env_files.find(content, "K") == value


AT = "invalid environment variable format at line"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\nK\n", f"{AT} 2: missing '='"),
        (b"='v'\n", f"{AT} 1: empty variable name"),
        (b" ='v'\n", f"{AT} 1: empty variable name"),
        (b"K ='v'\n", f"{AT} 1: whitespace before '=' is not allowed"),
        (b"K=v\n", f"{AT} 1: value must be enclosed in single quotes"),
        (b'K="v"\n', f"{AT} 1: value must be enclosed in single quotes"),
        (b"K=\n", f"{AT} 1: value must be enclosed in single quotes"),
        (b"OTHER=v\nK='v'\n", f"{AT} 1: value must be enclosed in single quotes"),
        (b"K='a''b'\n", f"{AT} 1: unexpected content after closing quote"),
        (b"K='a'$B\n", f"{AT} 1: unexpected content after closing quote"),
        (b"K='a\nb'c\n", f"{AT} 2: unexpected content after closing quote"),
        (
            b"X='x'\nK='a\nb\n",
            "invalid environment variable format starting at line 2: unclosed single quote",
        ),
        (b"X='" + 65532 * b"x" + b"'\nK='v'\n", "token too long"),
    ],
)
def test_any_other_line_makes_the_file_wrong(content: bytes, message: str):
    """§9.1.3"""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        env_files.find(content, "K")


def test_a_file_is_read_through_links_that_stay_in_the_volume(tmp_path: pathlib.Path):
    folder = tmp_path / "volume"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_bytes(b"x")
    (folder / "link").symlink_to("deep/../deep")
    assert volume_files.read_env_file(str(folder), "link/file") == b"x"


@pytest.mark.parametrize("target", ["../outside", "{outside}", "../volume2/file"])
def test_no_link_leads_out_of_the_volume(tmp_path: pathlib.Path, target: str):
    folder, outside = tmp_path / "volume", tmp_path / "outside"
    folder.mkdir()
    outside.write_bytes(b"x")
    (tmp_path / "volume2").mkdir()
    (tmp_path / "volume2" / "file").write_bytes(b"x")
    (folder / "link").symlink_to(target.format(outside=outside))
    with pytest.raises(OSError, match="lies outside the volume"):
        volume_files.read_env_file(str(folder), "link")


def test_only_files_are_read_and_only_of_a_size_that_makes_sense(tmp_path: pathlib.Path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(bytes(env_files.MAX_BYTES + 1))
    (tmp_path / "full").write_bytes(bytes(env_files.MAX_BYTES))
    assert len(volume_files.read_env_file(str(tmp_path), "full")) == env_files.MAX_BYTES
    for name, why in (
        ("fifo", "not a regular file"),
        ("folder", "Is a directory"),
        ("large", "larger than 1024 KiB"),
    ):
        with pytest.raises(OSError, match=why):
            volume_files.read_env_file(str(tmp_path), name)
    for missing in ("absent", "absent/file", "full/file"):
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            volume_files.read_env_file(str(tmp_path), missing)
