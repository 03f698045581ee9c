"""Static embeddings: a text is the mean of its words' vectors in the language model's own table, common words counting less.

The way of model2vec (Tulkens and van Dongen, 2024): no run of the model, so a text takes a millisecond. The table is read from the model's
file (GGUF, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md); a token's place in a byte-pair vocabulary stands for its frequency.
"""

import mmap
import re
import struct

import numpy

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_Q8_0, _BLOCK = 8, 32  # blocks of 32 numbers of 8 bits with one 16-bit scale
_SPACE = "Ġ"  # how a byte-pair vocabulary writes the space before a word


class _Reader:
    """What a GGUF file's header says."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, code):
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def string(self):
        length = self.number("Q")
        self.at += length
        return self.data[self.at - length : self.at].decode(errors="replace")

    def value(self, kind):
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, length = self.number("I"), self.number("Q")
            return [self.value(inner) for _ in range(length)]
        return self.number(_SCALARS[kind])

    def header(self):
        """The metadata, and where the tensors lie: name -> (shape, type, place)."""
        if self.data[:4] != b"GGUF":
            raise ValueError("the model is no GGUF file")
        self.at = 8
        tensors, pairs = self.number("Q"), self.number("Q")
        metadata = {self.string(): self.value(self.number("I")) for _ in range(pairs)}
        places = {}
        for _ in range(tensors):
            name, dimensions = self.string(), self.number("I")
            shape = [self.number("Q") for _ in range(dimensions)]
            places[name] = (shape, self.number("I"), self.number("Q"))
        alignment = metadata.get("general.alignment", 32)
        start = -(-self.at // alignment) * alignment
        return metadata, {name: (shape, kind, start + offset) for name, (shape, kind, offset) in places.items()}


class Embedder:
    """Turns texts into vectors of length one."""

    DIMENSIONS = 576

    def __init__(self, model):
        with open(model, "rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        metadata, tensors = _Reader(self._data).header()
        shape, kind, place = tensors["token_embd.weight"]
        if kind != _Q8_0 or shape[0] != self.DIMENSIONS:
            raise ValueError(f"{model}: a table of {self.DIMENSIONS} numbers in Q8_0 is wanted, not type {kind} of {shape[0]}")
        block = numpy.dtype([("scale", "<f2"), ("numbers", "i1", _BLOCK)])
        rows = (shape[1], self.DIMENSIONS // _BLOCK)
        self._table = numpy.frombuffer(self._data, block, rows[0] * rows[1], place).reshape(rows)
        self._tokens = {token: row for row, token in enumerate(metadata["tokenizer.ggml.tokens"])}

    def _rows(self, text):
        """The tokens of a text's words; what is no token whole is cut where the longest one ends."""
        for word in re.findall(r"\w+", text.lower()):
            rest = _SPACE + word
            while rest:
                end = next((end for end in range(len(rest), 0, -1) if rest[:end] in self._tokens), None)
                if end is None:
                    break
                yield self._tokens[rest[:end]]
                rest = rest[end:]

    def embed(self, text):
        rows = list(self._rows(text))
        if not rows:
            return numpy.zeros(self.DIMENSIONS, numpy.float32)
        blocks = self._table[rows]
        vectors = (blocks["scale"].astype(numpy.float32)[..., None] * blocks["numbers"]).reshape(len(rows), -1)
        # Zipf: the n-th most common word is 1/n as common; the weight is a/(a + frequency), of Arora et al., 2017.
        frequency = 1 / ((numpy.array(rows, numpy.float32) + 1) * 11)
        mean = ((1e-3 / (1e-3 + frequency))[:, None] * vectors).sum(axis=0)
        return mean / (numpy.linalg.norm(mean) or 1)
