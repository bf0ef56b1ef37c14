"""Sessions: photos by their own names, removed when no tab has them any more."""

import pytest

from d2csr.core.errors import UsageError
from d2csr.web.jobs import JobQueue
from d2csr.web.sessions import Photo, Sessions


@pytest.fixture
def sessions(tmp_path):
    """Return sessions without any job."""
    queue = JobQueue()
    yield Sessions(tmp_path, queue)
    queue.close()


def upload(sessions: Sessions, name: str, contents: bytes = b"a") -> dict[str, str]:
    """Return the record of an uploaded file, as Gradio makes it."""
    path = sessions.uploads / contents.hex() / "upload"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(contents)
    return {"path": str(path), "orig_name": name}


def test_a_file_that_two_tabs_uploaded_is_removed_with_the_second(sessions):
    file = upload(sessions, "a.jpg")
    (photo,) = sessions.keep("one", [file])
    assert photo.name == "a.jpg"
    sessions.keep("two", [file])
    sessions.keep("one", [])
    assert photo.path.exists()
    sessions.forget("two")
    assert not photo.path.exists()
    with pytest.raises(UsageError, match="is no longer here"):
        sessions.keep("two", [file])


@pytest.mark.parametrize("path", ["/etc/passwd", "{uploads}/../secret", "{uploads}/link", ""])
def test_paths_outside_the_uploads_are_refused(sessions, path):
    secret = sessions.uploads.parent / "secret"
    secret.write_text("secret")
    (sessions.uploads / "link").symlink_to(secret)
    with pytest.raises(UsageError, match="is no longer here"):
        sessions.keep("one", [{"path": path.format(uploads=sessions.uploads)}])


def test_photos_of_a_job_have_names_of_their_own_in_its_folder(sessions):
    names = ("a.jpg", "a.jpg", "../../b.png", "..", ".hidden.png", "long" * 100 + ".tif")
    files = [upload(sessions, name, bytes([index])) for index, name in enumerate(names)]
    photos = [
        Photo(each.path, name) for each, name in zip(sessions.keep("me", files), names, strict=True)
    ]
    folder = sessions.new_folder(photos)
    found = {path.name: path.read_bytes()[0] for path in (folder / "photos").iterdir()}
    assert len(found) == len(names)
    assert {"a.jpg": 0, "a (2).jpg": 1, "photo": 3, "hidden.png": 4}.items() <= found.items()
    (long,) = [name for name in found if name.startswith("long")]
    assert long.endswith(".tif")
    assert len(long.encode()) < 255
    assert folder.parent.parent == sessions.uploads.parent
