"""The demo: runs the pipeline with `kontrol up`, asks, kills the LLM in the middle of an answer, and counts what was lost.

It sees what a user sees: the page's events, `kontrol tree` and `kontrol why`. It ends with 0 only if every question was answered whole.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE / "data"
STATE = HERE / ".kontrol"
KONTROL = str(pathlib.Path(os.environ["KONTROL_BIN_DIR"]) / "kontrol") if "KONTROL_BIN_DIR" in os.environ else "kontrol"
QUESTION = os.environ.get("ASK") or "How does Kontrol restart a widget?"
SECOND = "What does a supervisor do when a widget ends too often?"
FIFTH = 5
LONGEST = 300  # seconds that any single step may take


class Failed(Exception):
    """A step of the demo did not come true."""


def say(text):
    print(f"\n==> {text}", flush=True)


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


def kontrol(*arguments):
    done = subprocess.run([KONTROL, "--state-dir", STATE, *arguments], cwd=HERE, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


def tree():
    text = kontrol("tree", "-o", "json")
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

    def __init__(self, url):
        self.url = url.rstrip("/")
        self.chunks = {}  # question -> attempt -> sequence -> (text, final, when it came)
        self.news = threading.Condition()
        self.on_chunk = None
        self._last = "0"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            try:
                request = urllib.request.Request(self.url + "/events", headers={"last-event-id": self._last})
                with urllib.request.urlopen(request, timeout=LONGEST) as lines:
                    self._read(lines)
            except OSError:
                time.sleep(0.05)  # its widget is being restarted

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

    def stats(self):
        try:
            with urllib.request.urlopen(self.url + "/stats", timeout=5) as reply:
                return json.load(reply)
        except OSError:
            return {"pieces": 0, "chunks": 0}

    def ask(self, question):
        body = json.dumps({"question": question}).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + "/ask", body, method="POST"), timeout=30) as reply:
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


def run(up):
    say("waiting until every widget is ready")
    progress = lambda: ", ".join(f"{one['name']} {one['phase']}" for one in (find("rag", tree()) or {}).get("widgets", []))
    until("ready", lambda: (node := find("rag", tree())) and node["ready"] or up.poll() is not None, progress)
    if up.poll() is not None:
        raise Failed(f"kontrol up ended with {up.returncode}")
    page = Page(until("the page", lambda: (DATA / "page.url").exists() and (DATA / "page.url").read_text()))

    say("the input widget splits and publishes the documents; the vector store embeds them")
    published, documents = until("the documents", what_was_published)
    stored = lambda: page.stats()["pieces"]
    until("the pieces", lambda: stored() >= published, lambda: f"{stored()} of {published} pieces stored")
    why = kontrol("why", "rag/vectors") or ""
    say("a scaling decision, in Kontrol's own words (kontrol why rag/vectors)")
    print("\n".join(f"    {line}" for line in why.strip().splitlines()), flush=True)

    say("a question")
    first = answer(page, QUESTION)

    say("another question; after its fifth token the LLM is killed with SIGKILL")
    before = find("llm", tree())

    def kill():
        pid = before["replicas"][0]["pid"]
        os.kill(pid, signal.SIGKILL)
        print(f"\n    [kill -9 {pid}]", end="", flush=True)

    second = answer(page, SECOND, kill)
    until("the restart in the tree", lambda: restarted(before))
    say("what its group did (kontrol why rag/llm)")
    print("\n".join(f"    {line}" for line in (kontrol("why", "rag/llm") or "").strip().splitlines()), flush=True)

    answers = [page.whole(one["id"]) for one in (first, second)]
    lost = published - stored() + sum(one is None for one in answers)
    restarts = sum(max(0, replica["incarnation"] - 1) for replica in replicas(tree()))
    rows = [
        ("documents", documents),
        ("their pieces published, stored", f"{published}, {stored()}"),
        ("questions asked, answered whole", f"{len(answers)}, {sum(one is not None for one in answers)}"),
        ("answer chunks shown", page.stats()["chunks"]),
        ("processes restarted", restarts),
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
    return page


def what_was_published():
    """The pieces and documents that the input widget says it has published; its last line, once it has ended."""
    for line in (kontrol("logs", "input/splitter") or "").splitlines():
        found = re.search(r"published (\d+) pieces of (\d+) documents", line)
        if found:
            return int(found[1]), int(found[2])
    return None


def replicas(nodes):
    """Every replica in the tree."""
    for node in nodes:
        yield from node.get("replicas", [])
        yield from replicas(node.get("children", []) + node.get("widgets", []))


def restarted(before):
    node = find("llm", tree())
    new = node and node["replicas"] and node["replicas"][0]["incarnation"] > before["replicas"][0]["incarnation"]
    return node if new else None


def main():
    if kontrol("tree", "-o", "json"):
        print(f"the pipeline is up already: kontrol down --state-dir {STATE}", file=sys.stderr)
        return 1
    for left in (DATA, STATE):
        shutil.rmtree(left, ignore_errors=True)
    say("kontrol up examples/ai-pipeline")
    started = time.monotonic()
    up = subprocess.Popen([KONTROL, "up", "pipeline.yaml"], cwd=HERE)
    try:
        page = run(up)
        print(f"    done in {time.monotonic() - started:.1f} s", flush=True)
        if os.environ.get("KEEP"):
            say(f"staying up: {page.url}/ (Ctrl-C ends it)")
            up.wait()
        return 0
    except Failed as failure:
        print(f"\n==> the demo failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if up.poll() is None:
            say("kontrol down")
            kontrol("down")
            try:
                up.wait(timeout=30)
            except subprocess.TimeoutExpired:
                up.kill()


if __name__ == "__main__":
    sys.exit(main())
