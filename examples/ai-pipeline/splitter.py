"""Input: reads the documents of a folder, splits them and publishes the pieces. Ends when all are durable."""

import hashlib
import os
import pathlib
import re

import widget

FOLDER = pathlib.Path(os.environ.get("DOCS") or "../../docs").resolve()
PIECE = 700  # characters


def pieces(text):
    """Paragraphs, joined up to PIECE characters; a longer one is cut."""
    current = ""
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = paragraph.strip()
        while len(paragraph) > PIECE:
            yield paragraph[:PIECE]
            paragraph = paragraph[PIECE:]
        if len(current) + len(paragraph) > PIECE:
            yield current
            current = ""
        current = f"{current}\n\n{paragraph}".strip()
    if current:
        yield current


def main():
    documents = published = 0
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix not in {".md", ".txt", ".rst"} or not path.is_file():
            continue
        documents += 1
        name = str(path.relative_to(FOLDER))
        for number, text in enumerate(pieces(path.read_text(errors="replace"))):
            digest = hashlib.sha256(f"{name}\0{number}\0{text}".encode()).hexdigest()[:32]
            data = {"document": name, "piece": number, "text": text}
            widget.publish("documents", "dev.kontrol.example.document.piece", data, id=digest, subject=name)
            published += 1
    print(f"published {published} pieces of {documents} documents from {FOLDER}", flush=True)


main()
