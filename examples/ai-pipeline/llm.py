"""LLM: answers each question with the pieces that the vector store finds, and publishes every token as it comes."""

import widget
from model import Chat

chat = Chat()


def answer(body, headers):
    """One question. Returning acknowledges it; if this process ends before, it is delivered again, to whoever is there then."""
    question, attempt = headers["ce-id"], int(headers["kontrol-attempt"])
    found = widget.call("vectors", "nearest", {"question": body["question"], "k": 2})["pieces"]
    context = "\n\n".join(piece["text"] for piece in found)
    sequence = 0

    def emit(text, final=False):
        nonlocal sequence
        chunk = {"question": question, "attempt": attempt, "sequence": sequence, "text": text, "final": final}
        if sequence == 0:
            chunk["sources"] = sorted({piece["document"] for piece in found})
        event = f"{question}.{attempt}.{sequence}"
        widget.publish("answers", "dev.kontrol.example.answer.chunk", chunk, id=event, subject=question)
        sequence += 1

    messages = [
        {"role": "system", "content": "You answer questions about the notes that you are given, in two or three sentences."},
        {"role": "user", "content": f"Notes:\n\n{context}\n\nQuestion: {body['question']}\nAnswer from the notes alone."},
    ]
    chat.stream(messages, emit)
    emit("", final=True)


widget.serve({"/questions": answer})
