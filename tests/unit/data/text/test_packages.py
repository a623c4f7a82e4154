"""The sources of Python's own packages, as text that is there without a download."""

from __future__ import annotations

from pathlib import Path

from raysplit.data.text.documents import documents_of
from raysplit.data.text.windows import load_text


def test_each_package_is_a_document_and_an_owner(tmp_path: Path) -> None:
    documents = documents_of("python_packages", tmp_path)
    assert [document.name for document in documents] == ["email", "http", "json", "xml"]
    assert all(b"import" in document.content and len(document.content) > 20_000 for document in documents)
    data = load_text("python_packages", tmp_path)
    assert data.natural_owner is not None
    assert set(data.natural_owner.tolist()) == {"email", "http", "json", "xml"}
