"""The demo: runs the pipeline, asks, kills the LLM in the middle of an answer, and counts what was lost. `demo.py` runs it with `kontrol up`,
`demo.py --cluster` on the cluster that kubectl asks; both put the same questions and give the same summary.

It sees what a user sees: the page's events, `kontrol tree` and `kontrol why`. It ends with 0 only if every question was answered whole.
"""

import http.client
import json
import os
import re
import sys
import threading
import time
import urllib.request

from demo_worlds import Failed, chosen, say

QUESTION = os.environ.get("ASK") or "How does Kontrol restart a widget?"
SECOND = "What does a supervisor do when a widget ends too often?"
FIFTH = 5
LONGEST = 300  # seconds that any single step may take
SILENCE = 20  # seconds after which a page that says each second how it stands is gone
AWAY = (OSError, http.client.HTTPException)  # what is heard while the page's widget is restarted


def until(what, condition, progress=None):
    """Asks again until `condition()` gives something; says how far it is when that changes."""
    deadline, shown = time.monotonic() + LONGEST, None
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        text = progress() if progress else None
        if text and text != shown:
            shown = text
            print(f"    {text}", flush=True)
        time.sleep(0.1)
    raise Failed(f"{what}: not after {LONGEST} s")


def tree(world):
    text = world.kontrol("tree", "-o", "json")
    return json.loads(text)["roots"] if text else []


def find(name, nodes):
    """The supervisor, group or widget of a name, anywhere in the tree."""
    for node in nodes:
        if node["name"] == name:
            return node
        found = find(name, node.get("children", []) + node.get("widgets", []))
        if found:
            return found
    return None


class Page:
    """The page of the pipeline, as a browser sees it: its events, over restarts of the widget behind it."""

    def __init__(self, world):
        self.world = world
        self.chunks = {}  # question -> attempt -> sequence -> (text, final, when it came)
        self.news = threading.Condition()
        self.on_chunk = None
        self._last = ""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            try:
                with self._open("/events", headers={"last-event-id": self._last}, timeout=SILENCE) as lines:
                    self._read(lines)
            except AWAY:
                time.sleep(0.05)

    def _open(self, path, timeout=5, **request):
        url = self.world.page()
        if url is None:
            raise ConnectionRefusedError("the page has no address now")
        return urllib.request.urlopen(urllib.request.Request(url + path, **request), timeout=timeout)

    def _read(self, lines):
        event = {}
        for line in lines:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field:
                event[field] = value
            elif event:
                if event.get("event") == "chunk":
                    self._last = event["id"]
                    self._take(json.loads(event["data"]))
                event = {}

    def _take(self, chunk):
        with self.news:
            attempts = self.chunks.setdefault(chunk["question"], {})
            attempts.setdefault(chunk["attempt"], {})[chunk["sequence"]] = (chunk["text"], chunk["final"], time.monotonic())
            self.news.notify_all()
        if self.on_chunk:
            self.on_chunk(chunk)

    def stored(self):
        """The pieces that the vector store holds; 0 while nobody says."""
        try:
            with self._open("/stats") as reply:
                return json.load(reply)["pieces"]
        except AWAY:
            return 0

    def shown(self):
        """How many chunks of answers came."""
        with self.news:
            return sum(len(chunks) for attempts in self.chunks.values() for chunks in attempts.values())

    def ask(self, question):
        with self._open("/ask", data=json.dumps({"question": question}).encode(), method="POST", timeout=30) as reply:
            return json.load(reply)["id"]

    def whole(self, question):
        """The answer of the highest attempt, if it is there from its first chunk to its last."""
        with self.news:
            attempts = self.chunks.get(question)
            if not attempts:
                return None
            chunks = attempts[max(attempts)]
            last = max(chunks)
            if not chunks[last][1] or len(chunks) != last + 1:
                return None
            return "".join(chunks[i][0] for i in range(last + 1)), max(attempts)


def answer(page, question, at_fifth=None):
    """Asks, prints the answer as it streams, and returns what a summary needs."""
    print(f"    Q: {question}\n    A: ", end="", flush=True)
    asked = time.monotonic()
    state = {"first": None, "attempt": 1, "killed": False, "id": None, "sources": []}

    def show(chunk):
        if chunk["question"] != state["id"]:
            return
        state["first"] = state["first"] or time.monotonic() - asked
        state["sources"] = chunk.get("sources", state["sources"])
        if chunk["attempt"] != state["attempt"]:
            state["attempt"] = chunk["attempt"]
            print(f"\n    [delivered again, attempt {chunk['attempt']}]\n    A: ", end="")
        print(chunk["text"].replace("\n", " "), end="", flush=True)
        if at_fifth and not state["killed"] and chunk["sequence"] >= FIFTH - 1:
            state["killed"] = True
            at_fifth()

    page.on_chunk = show
    with page.news:  # no chunk is taken before its question has a name
        state["id"] = page.ask(question)
    _, attempt = until("the whole answer", lambda: page.whole(state["id"]))
    page.on_chunk = None
    took = time.monotonic() - asked
    print(f"\n    [first token after {state['first'] * 1000:.0f} ms, whole after {took:.1f} s, attempt {attempt}, from {', '.join(state['sources'])}]", flush=True)
    return {"id": state["id"], "first": state["first"], "took": took, "attempt": attempt}


def run(world):
    say("waiting until every widget is ready")
    group = lambda: find("rag", tree(world)) or {}
    progress = lambda: ", ".join(f"{one['name']} {one['phase']}" for one in group().get("widgets", []))
    until("ready", lambda: world.check() or group().get("ready"), progress)
    until("the page", world.page)
    page = Page(world)

    say("the input widget splits and publishes the documents; the vector store embeds them")
    published, documents = until("the documents", lambda: what_was_published(world))
    until("the pieces", lambda: page.stored() >= published, lambda: f"{page.stored()} of {published} pieces stored")
    say(f"a scaling decision, in Kontrol's own words ({world.tool} why rag/vectors)")
    indented(world.kontrol("why", "rag/vectors"))

    say("a question")
    first = answer(page, QUESTION)

    say(f"another question; after its fifth token {world.killing}")
    before = find("llm", tree(world))["replicas"][0]
    kill = lambda: print(f"\n    [{world.kill(before)}]", end="", flush=True)
    second = answer(page, SECOND, kill)
    until("the restart in the tree", lambda: was_restarted(world, before))
    say(f"what its group did ({world.tool} why rag/llm)")
    indented(world.kontrol("why", "rag/llm"))

    stored = until("the count of pieces", page.stored)
    answers = [page.whole(one["id"]) for one in (first, second)]
    lost = published - stored + sum(one is None for one in answers)
    restarts = sum(max(0, replica["incarnation"] - 1) for replica in replicas(tree(world)))
    rows = [
        ("documents", documents),
        ("their pieces published, stored", f"{published}, {stored}"),
        ("questions asked, answered whole", f"{len(answers)}, {sum(one is not None for one in answers)}"),
        ("answer chunks shown", page.shown()),
        (world.restarted, restarts),
        ("attempts of the second question", second["attempt"]),
        ("time to first token", f"{first['first'] * 1000:.0f} ms"),
        ("whole answer", f"{first['took']:.1f} s"),
        ("whole answer, with the kill in it", f"{second['took']:.1f} s"),
        ("lost", lost),
    ]
    say("summary")
    for name, value in rows:
        print(f"    {name:40} {value}", flush=True)
    print(f"\n    lost {lost}", flush=True)
    if lost or second["attempt"] < 2:
        raise Failed("a message was lost" if lost else "the kill came too late to interrupt the answer")


def indented(text):
    print("\n".join(f"    {line}" for line in (text or "").strip().splitlines()), flush=True)


def what_was_published(world):
    """The pieces and documents that the input widget says it has published; its last line, once it has ended."""
    for line in world.written("input/splitter"):
        found = re.search(r"published (\d+) pieces of (\d+) documents", line)
        if found:
            return int(found[1]), int(found[2])
    return None


def replicas(nodes):
    """Every replica in the tree."""
    for node in nodes:
        yield from node.get("replicas", [])
        yield from replicas(node.get("children", []) + node.get("widgets", []))


def was_restarted(world, before):
    node = find("llm", tree(world))
    return node and node["replicas"] and node["replicas"][0]["incarnation"] > before["incarnation"]


def main():
    world = chosen()
    try:
        started = time.monotonic()
        world.start()
        run(world)
        print(f"    done in {time.monotonic() - started:.1f} s", flush=True)
        if os.environ.get("KEEP"):
            world.stay()
        return 0
    except Failed as failure:
        print(f"\n==> the demo failed: {failure}", file=sys.stderr)
        world.explain()
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        world.end()


if __name__ == "__main__":
    sys.exit(main())
