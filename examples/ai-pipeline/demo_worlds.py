"""The two worlds that the demo runs in: this machine, by `kontrol up`, and a cluster, by `kubectl apply`. What a user would type, they type."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent


class Failed(Exception):
    """A step of the demo did not come true."""


def say(text):
    print(f"\n==> {text}", flush=True)


def output(*command):
    """What a command prints; None where it fails."""
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else None


class Laptop:
    """Processes of this machine."""

    DATA = HERE / "data"
    STATE = HERE / ".kontrol"
    KONTROL = str(pathlib.Path(os.environ["KONTROL_BIN_DIR"]) / "kontrol") if "KONTROL_BIN_DIR" in os.environ else "kontrol"
    tool = "kontrol"
    restarted = "processes restarted"
    killing = "the LLM is killed with SIGKILL"

    def __init__(self):
        self._up = None

    def kontrol(self, *arguments):
        return output(self.KONTROL, "--state-dir", self.STATE, *arguments)

    def written(self, widget):
        """The lines that a widget has written."""
        return (self.kontrol("logs", widget) or "").splitlines()

    def start(self):
        if self.kontrol("tree", "-o", "json"):
            raise Failed(f"the pipeline is up already: kontrol down --state-dir {self.STATE}")
        for left in (self.DATA, self.STATE):
            shutil.rmtree(left, ignore_errors=True)
        say("kontrol up examples/ai-pipeline")
        self._up = subprocess.Popen([self.KONTROL, "up", "pipeline.yaml"], cwd=HERE)

    def check(self):
        """Fails where nothing can come any more."""
        if self._up.poll() is not None:
            raise Failed(f"kontrol up ended with {self._up.returncode}")

    def page(self):
        """The address of the page; None while it is not there."""
        address = self.DATA / "page.url"
        return address.read_text().rstrip("/") if address.exists() else None

    def kill(self, replica):
        """Ends a replica at once; says how."""
        os.kill(replica["pid"], signal.SIGKILL)
        return f"kill -9 {replica['pid']}"

    def explain(self):
        """Shows what may tell why the demo failed."""
        print(self.kontrol("tree") or "", file=sys.stderr)

    def stay(self):
        """What KEEP=1 means here."""
        say(f"staying up: {self.page()}/ (Ctrl-C ends it)")
        self._up.wait()

    def end(self):
        if self._up is None or self._up.poll() is not None:
            return
        say("kontrol down")
        self.kontrol("down")
        try:
            self._up.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._up.kill()


class Cluster:
    """Pods of the cluster that kubectl asks, in a namespace of their own."""

    NAMESPACE = "ai-pipeline"
    PORT = 8080  # of a widget whose endpoint names none
    tool = "kubectl kontrol"
    restarted = "pods and processes restarted"
    killing = "the LLM's pod is deleted"

    def __init__(self):
        self._forward = self._following = None
        self._made = False
        self._over = False
        self._written = {}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]

    def kontrol(self, *arguments):
        return output("kubectl", "kontrol", *arguments, "--namespace", self.NAMESPACE)

    def _kubectl(self, *arguments):
        return output("kubectl", "--namespace", self.NAMESPACE, *arguments)

    def _shown(self, *arguments):
        """Runs kubectl as a user does."""
        say(" ".join(["kubectl", *arguments]))
        if subprocess.run(["kubectl", *arguments], cwd=HERE.parents[1]).returncode:
            raise Failed(f"kubectl {arguments[0]} failed")

    def start(self):
        if self._kubectl("get", "namespace", self.NAMESPACE):
            raise Failed(f"the pipeline is there already: kubectl delete namespace {self.NAMESPACE}")
        self._shown("create", "namespace", self.NAMESPACE)
        self._made = True
        self._shown("apply", "--namespace", self.NAMESPACE, "-f", str(HERE.relative_to(HERE.parents[1])))
        threading.Thread(target=self._keep_forwarding, daemon=True).start()
        threading.Thread(target=self._follow, args=("input/splitter",), daemon=True).start()

    def _follow(self, widget):
        """Reads what a widget writes while it writes it: a pod that has done its work takes its log along."""
        lines = self._written[widget] = []
        while not self._over:
            command = ["kubectl", "kontrol", "logs", widget, "--follow", "--namespace", self.NAMESPACE]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as follow:
                self._following = follow
                lines.extend(follow.stdout)
            time.sleep(0.5)

    def written(self, widget):
        return list(self._written.get(widget, []))

    def check(self):
        """A cluster has no process that could have ended."""

    def _pod(self):
        """The pod of the page that runs and is not going."""
        text = self._kubectl("get", "pods", "-l", "kontrol.dev/group=rag,kontrol.dev/widget=visualization", "-o", "json")
        for pod in json.loads(text)["items"] if text else []:
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]:
                return pod["metadata"]["name"]
        return None

    def _keep_forwarding(self):
        """One `kubectl port-forward` after the other: each ends with its pod."""
        while not self._over:
            pod = self._pod()
            if pod:
                command = ["kubectl", "--namespace", self.NAMESPACE, "port-forward", f"pod/{pod}", f"{self._port}:{self.PORT}"]
                self._forward = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                while self._forward.poll() is None and not self._over and self._pod() == pod:
                    time.sleep(0.5)
                self._stop_forwarding()
            time.sleep(0.2)

    def _stop_forwarding(self):
        if self._forward and self._forward.poll() is None:
            self._forward.terminate()
            self._forward.wait()

    def page(self):
        return f"http://127.0.0.1:{self._port}" if self._forward and self._forward.poll() is None else None

    def kill(self, replica):
        self._kubectl("delete", "pod", replica["pod"].rpartition("/")[2], "--grace-period=1", "--wait=false")
        return f"kubectl delete pod {replica['pod']} --grace-period=1"

    def explain(self):
        for text in (self.kontrol("tree"), self._kubectl("get", "pods", "-o", "wide"), self._kubectl("events", "--types=Warning")):
            print(text or "", file=sys.stderr)

    def stay(self):
        here = f"--namespace {self.NAMESPACE}"
        say("the pipeline stays up")
        print(f"    kubectl {here} port-forward service/rag-visualization {self.PORT}    then http://127.0.0.1:{self.PORT}/")
        print(f"    kubectl kontrol tree {here}", flush=True)

    def end(self):
        self._over = True
        for process in (self._forward, self._following):
            if process and process.poll() is None:
                process.terminate()
        if self._made and not os.environ.get("KEEP"):
            say(f"kubectl delete namespace {self.NAMESPACE}")
            output("kubectl", "delete", "namespace", self.NAMESPACE)


def chosen():
    """The world that the command line names."""
    return Cluster() if "--cluster" in sys.argv[1:] else Laptop()
