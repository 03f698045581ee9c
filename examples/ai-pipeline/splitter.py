"""Input: reads the documents of a folder, splits them and publishes the pieces. Ends when all are durable."""

import concurrent.futures
import hashlib
import os
import pathlib
import re

import widget

FOLDER = pathlib.Path(os.environ.get("DOCS") or "../../docs").resolve()
PIECE = 700  # characters
IN_FLIGHT = 16  # one sync of the log makes all of them durable


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


def events():
    """The pieces of all documents, each with an id by which it is the same event whenever it is read again."""
    for path in sorted(FOLDER.rglob("*")):
        name = path.relative_to(FOLDER)
        hidden = any(part.startswith(".") for part in name.parts)
        if hidden or path.suffix not in {".md", ".txt", ".rst"} or not path.is_file():
            continue
        for number, text in enumerate(pieces(path.read_text(errors="replace"))):
            digest = hashlib.sha256(f"{name}\0{number}\0{text}".encode()).hexdigest()[:32]
            yield digest, {"document": str(name), "piece": number, "text": text}


def publish(event):
    name, data = event
    widget.publish("documents", "dev.kontrol.example.document.piece", data, id=name, subject=data["document"])
    return data["document"]


def main():
    with concurrent.futures.ThreadPoolExecutor(IN_FLIGHT) as pool:
        published = list(pool.map(publish, events()))
    print(f"published {len(published)} pieces of {len(set(published))} documents from {FOLDER}", flush=True)


main()
