"""Vector DB: embeds the pieces of documents and stores them with sqlite-vec; answers which are nearest to a question."""

import os
import pathlib
import re

import apsw
import sqlite_vec

import widget
from embedder import Embedder
from model import MODEL

DATA = pathlib.Path(os.environ.get("DATA", "data"))
embedder = Embedder(MODEL)


def database():
    """A connection for one request: replicas share the file."""
    DATA.mkdir(exist_ok=True)
    connection = apsw.Connection(str(DATA / "vectors.db"))
    connection.set_busy_timeout(20_000)
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    connection.enable_load_extension(False)
    connection.execute("pragma synchronous = full")  # a piece is acknowledged when it is on the disk
    return connection


def create():
    connection = database()
    connection.execute("pragma journal_mode = wal")
    connection.execute("begin immediate")
    connection.execute("create table if not exists pieces (rowid integer primary key, id text unique, document text, text text)")
    connection.execute(
        f"create virtual table if not exists vectors using vec0(embedding float[{Embedder.DIMENSIONS}] distance_metric=cosine)"
    )
    connection.execute("create virtual table if not exists words using fts5(text, content='')")
    connection.execute("commit")


def store(body, headers):
    """One piece; the same piece again changes nothing, because at-least-once means it may come twice."""
    vector = embedder.embed(body["text"])
    connection = database()
    connection.execute("begin immediate")
    row = connection.execute(
        "insert into pieces (id, document, text) values (?, ?, ?) on conflict (id) do nothing returning rowid",
        (headers["ce-id"], body["document"], body["text"]),
    ).fetchone()
    if row:
        connection.execute("insert into vectors (rowid, embedding) values (?, ?)", (row[0], sqlite_vec.serialize_float32(vector)))
        connection.execute("insert into words (rowid, text) values (?, ?)", (row[0], body["text"]))
    connection.execute("commit")
    connection.close()


def nearest(body, _headers):
    """The pieces nearest to a question, by meaning and by words: both rankings joined by reciprocal rank."""
    question, wanted = body["question"], body.get("k", 3)
    vector = sqlite_vec.serialize_float32(embedder.embed(question))
    connection = database()
    by_meaning = connection.execute("select rowid from vectors where embedding match ? and k = 10 order by distance", (vector,))
    scores = {}
    for rank, (row,) in enumerate(by_meaning.fetchall()):
        scores[row] = scores.get(row, 0) + 1 / (60 + rank)
    terms = " or ".join(f'"{word}"' for word in re.findall(r"\w{3,}", question))
    if terms:
        by_words = connection.execute("select rowid from words where words match ? order by rank limit 10", (terms,))
        for rank, (row,) in enumerate(by_words.fetchall()):
            scores[row] = scores.get(row, 0) + 1 / (60 + rank)
    best = sorted(scores, key=scores.get, reverse=True)[:wanted]
    found = [connection.execute("select document, text from pieces where rowid = ?", (row,)).fetchone() for row in best]
    connection.close()
    return {"pieces": [{"document": document, "text": text} for document, text in found]}


def count(_body, _headers):
    connection = database()
    (pieces,) = connection.execute("select count(*) from pieces").fetchone()
    connection.close()
    return {"pieces": pieces}


create()
widget.serve({"/documents": store, "/nearest": nearest, "/count": count})
