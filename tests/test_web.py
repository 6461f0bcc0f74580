"""Whatever speaks to a server keeps secrets out of addresses, of open lines and of messages."""

import urllib.error

import pytest

from hilum.errors import CannotRead
from hilum.safety import web
from hilum.safety.web import Login


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("https://pacs.example.org/dicom-web", ""),
        ("http://127.0.0.1:8042", ""),
        ("http://[::1]:8042/a", ""),
        ("pacs.example.org", "must be an address"),
        ("ftp://pacs.example.org", "must be an address"),
        ("https:///dicom-web", "must be an address"),
        ("https://pacs:no/", "must be an address"),
        ("https://pacs:0/", "must be an address"),
        ("https://pacs/a b", "must be an address"),
        ("https://pacs/\x1b[2J", "must be an address"),
        ("https://me:secret@pacs/", "must hold neither"),
        ("https://pacs/?key=secret", "must hold neither"),
        ("https://pacs/#secret", "must hold neither"),
    ],
)
def test_an_address_of_a_server_is_whole_and_holds_no_secret(url, wrong):
    found = web.fault_of_address(url)
    assert found.startswith(wrong) and bool(found) == bool(wrong) and "\x1b" not in found


def test_an_open_line_is_one_that_leaves_this_machine_without_encryption():
    assert web.is_open("http://pacs.example.org/") and web.is_open("http://10.0.0.1:8042")
    assert not any(map(web.is_open, ("https://pacs/", "http://localhost/", "http://127.0.0.1:1/")))


def test_what_an_error_says_holds_no_secret_and_one_line(monkeypatch):
    monkeypatch.setenv("SOME_API_TOKEN", "from-the-environment")
    said = (
        "no\nsuch https://me:pass@host/a?key=signed of AWS_SECRET=hidden, from-the-environment: "
        + "x" * 1000
    )
    words = web.reason(ValueError(said))
    assert not any(one in words for one in ("pass", "signed", "hidden", "from-the", "\n"))
    assert len(words) <= 300
    assert web.reason(urllib.error.URLError(ConnectionRefusedError(111, "refused"))) == "refused"
    assert web.reason(TimeoutError()) == "TimeoutError"


def test_a_file_without_certificates_is_named(tmp_path):
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(CannotRead, match="ca.pem holds no certificates"):
        Login(ca=str(tmp_path / "ca.pem")).trusted()
