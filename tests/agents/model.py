#!/usr/bin/env python3
"""A model server that follows a script: each answer asks for the script's next tool call, the last one says `done`.

It speaks Anthropic Messages, OpenAI Responses and OpenAI Chat Completions, enough for Claude Code, Codex,
smolagents and LangChain. The step is the number of tool results in the request, so a retry gets the same answer
and any number of agents share one server.

The script is a JSON list. A string is a shell command; {"write": PATH, "content": TEXT} is a file written with the
agent's own file tool where the protocol has one, and with the shell elsewhere.
"""

import argparse
import gzip
import json
import re
import shlex
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DONE = "done"
MOST_BODY = 64 << 20


class Script:
    """The steps, and where the requests are written down."""

    def __init__(self, path, values, log):
        with open(path, encoding="utf-8") as f:
            text = f.read()
        for name, value in values.items():
            text = text.replace(f"@{name}@", json.dumps(value)[1:-1])
        left = sorted(set(re.findall(r"@[A-Z_]+@", text)))
        if left:
            raise SystemExit(f"model: {path} has placeholders without a value: {' '.join(left)} (use --set)")
        self.steps = json.loads(text)
        self.log_file = open(log, "a", encoding="utf-8") if log else None
        self.lock = threading.Lock()

    def step(self, results):
        """What comes after so many results; None when the script is over."""
        return self.steps[len(results)] if len(results) < len(self.steps) else None

    def log(self, **facts):
        if self.log_file:
            with self.lock:
                self.log_file.write(json.dumps({"time": round(time.time(), 3), **facts}) + "\n")
                self.log_file.flush()


def text_of(content):
    """The plain text of a message or tool result in any of the three protocols."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(text_of(part.get("text", "")) for part in content if isinstance(part, dict))
    return json.dumps(content)


def as_command(step):
    """The step as a shell command, for agents that have no other tool."""
    if isinstance(step, str):
        return step
    return f"printf %s {shlex.quote(step['content'])} > {shlex.quote(step['write'])}"


def sse(events):
    """Events of (name or None, data) as a stream of server-sent events."""
    lines = []
    for name, data in events:
        lines.append(f"event: {name}\n" if name else "")
        lines.append(f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n")
    return "".join(lines)


# --- Anthropic Messages -----------------------------------------------------------------------------------------


def messages_results(body):
    parts = [p for m in body.get("messages", []) if isinstance(m.get("content"), list) for p in m["content"]]
    return [text_of(p.get("content", "")) for p in parts if p.get("type") == "tool_result"]


def messages_block(step, tools, n):
    if step is None:
        return {"type": "text", "text": DONE}
    if isinstance(step, dict) and "Write" in tools:
        call = ("Write", {"file_path": step["write"], "content": step["content"]})
    else:
        call = ("Bash", {"command": as_command(step), "description": f"step {n}"})
    return {"type": "tool_use", "id": f"toolu_{n:04}", "name": call[0], "input": call[1]}


def messages(body, script):
    results = messages_results(body)
    tools = {t.get("name") for t in body.get("tools") or []}
    # Titles, topics and warm-up requests come without tools: they are no part of the script.
    step = script.step(results) if "Bash" in tools else None
    block = messages_block(step, tools, len(results))
    stop = "end_turn" if step is None else "tool_use"
    usage = {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    message = {
        "id": f"msg_{len(results):04}", "type": "message", "role": "assistant", "model": body.get("model", "scripted"),
        "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage,
    }
    if not body.get("stream"):
        return step, results, {**message, "content": [block], "stop_reason": stop}
    if step is None:
        empty, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": DONE}
    else:
        empty = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    events = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return step, results, sse((e["type"], e) for e in events)


# --- OpenAI Responses -------------------------------------------------------------------------------------------

OUTPUTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")


def patch_of(step):
    lines = "".join(f"+{line}\n" for line in step["content"].splitlines())
    return f"*** Begin Patch\n*** Add File: {step['write']}\n{lines}*** End Patch\n"


def responses_item(step, tools, n):
    if step is None:
        part = {"type": "output_text", "text": DONE, "annotations": []}
        return {"type": "message", "id": f"msg_{n:04}", "role": "assistant", "status": "completed", "content": [part]}
    call = {"id": f"fc_{n:04}", "call_id": f"call_{n:04}", "status": "completed"}
    if isinstance(step, dict) and tools.get("apply_patch") == "custom":
        return {"type": "custom_tool_call", **call, "name": "apply_patch", "input": patch_of(step)}
    command = as_command(step)
    shells = {
        "exec_command": {"cmd": command, "yield_time_ms": 30000},
        "shell_command": {"command": command, "timeout_ms": 30000},
        "shell": {"command": ["bash", "-c", command], "timeout_ms": 30000},
    }
    name = next((s for s in shells if s in tools), "exec_command")
    return {"type": "function_call", **call, "name": name, "arguments": json.dumps(shells[name])}


def responses(body, script):
    items = body.get("input") if isinstance(body.get("input"), list) else []
    results = [text_of(i.get("output", "")) for i in items if i.get("type") in OUTPUTS]
    tools = {t.get("name", t.get("type")): t.get("type") for t in body.get("tools") or []}
    step = script.step(results) if tools else None
    item = responses_item(step, tools, len(results))
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    answer = {
        "id": f"resp_{len(results):04}", "object": "response", "created_at": 0, "model": body.get("model", "scripted"),
        "status": "completed", "output": [item],
        "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, **details},
    }
    if not body.get("stream"):
        return step, results, answer
    events = [
        {"type": "response.created", "response": {**answer, "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": answer},
    ]
    return step, results, sse((e["type"], e) for e in events)


# --- OpenAI Chat Completions ------------------------------------------------------------------------------------


def chat_results(body):
    found = []
    for m in body.get("messages", []):
        text = text_of(m.get("content") or "")
        # smolagents sends a tool's result as a user message that starts so.
        if m.get("role") == "tool" or (m.get("role") == "user" and text.startswith("Observation:")):
            found.append(text)
    return found


def chat(body, script):
    results = chat_results(body)
    tools = {t["function"]["name"] for t in body.get("tools") or []}
    step = script.step(results) if "run" in tools else None
    call = None
    if step is not None:
        call = ("run", {"command": as_command(step)})
    elif "final_answer" in tools:
        call = ("final_answer", {"answer": DONE})
    message = {"role": "assistant", "content": None if call else DONE}
    if call:
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        message["tool_calls"] = [{"index": 0, "id": f"call_{len(results):04}", "type": "function", "function": function}]
    answer = {"id": f"chatcmpl-{len(results):04}", "created": 0, "model": body.get("model", "scripted")}
    stop = "tool_calls" if call else "stop"
    if body.get("stream"):
        start = {"index": 0, "delta": message, "finish_reason": None}
        end = {"index": 0, "delta": {}, "finish_reason": stop}
        chunks = [(None, {**answer, "object": "chat.completion.chunk", "choices": [c]}) for c in (start, end)]
        return step, results, sse([*chunks, (None, "[DONE]")])
    choice = {"index": 0, "message": message, "finish_reason": stop}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return step, results, {**answer, "object": "chat.completion", "choices": [choice], "usage": usage}


# --- HTTP -------------------------------------------------------------------------------------------------------

PROTOCOLS = {"/v1/messages": messages, "/v1/responses": responses, "/v1/chat/completions": chat}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "model"
    script = None

    def log_message(self, *_):
        """Requests are in the log file."""

    def body(self):
        """The request's JSON, or None when it has none or it is not understood."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            data = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), MOST_BODY))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        try:
            return json.loads(data)
        except ValueError:
            return None

    def reply(self, status, answer):
        stream = isinstance(answer, str)
        data = (answer if stream else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream" if stream else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def answer(self):
        facts = {
            "request": f"{self.command} {self.path}", "host": self.headers.get("Host"),
            "agent": self.headers.get("User-Agent"),
        }
        body, path = self.body(), self.path.split("?")[0]
        if self.command == "POST" and isinstance(body, dict) and path in PROTOCOLS:
            step, results, answer = PROTOCOLS[path](body, self.script)
            facts["model"] = body.get("model")
            facts["tools"] = sorted(t.get("name") or t.get("function", {}).get("name") or t.get("type", "")
                                    for t in body.get("tools") or [])
            facts |= {"step": len(results), "result": results[-1] if results else None}
            facts["ask"] = DONE if step is None else as_command(step)
            status = 200
        elif path == "/v1/messages/count_tokens":
            status, answer = 200, {"input_tokens": 10}
        elif path == "/v1/models":
            status, answer = 200, {"object": "list", "data": [{"id": "scripted", "object": "model"}], "models": []}
        elif path == "/" and self.command in ("GET", "HEAD"):
            status, answer = 200, {}
        else:
            status, answer = 404, {"type": "error", "error": {"type": "not_found_error", "message": self.path}}
        self.script.log(**facts, status=status)
        self.reply(status, answer)

    do_GET = do_HEAD = do_POST = answer


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that hangs up, or that does not trust the certificate, is no news; the rest is."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--script", required=True, metavar="FILE", help="JSON list of steps")
    p.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="value of @NAME@ in the script")
    p.add_argument("--log", metavar="FILE", help="one JSON line for each request, appended")
    p.add_argument("--bind", default="127.0.0.1", metavar="ADDRESS")
    p.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one and prints it")
    p.add_argument("--cert", metavar="PEM", help="serve TLS")
    p.add_argument("--key", metavar="PEM")
    args = p.parse_args()
    if any("=" not in pair for pair in args.set):
        p.error("--set wants NAME=VALUE")
    Handler.script = Script(args.script, dict(pair.split("=", 1) for pair in args.set), args.log)
    server = Server((args.bind, args.port), Handler)
    if args.cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(args.cert, args.key)
        # The handshake belongs to the connection's own thread: a silent client must not hold up the others.
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(f"{'https' if args.cert else 'http'}://{args.bind}:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
