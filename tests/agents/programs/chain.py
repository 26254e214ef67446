#!/usr/bin/env python3
"""A LangChain tool-calling loop with one tool, `run`. MODEL_URL is the base URL of the model server, without /v1."""

import os
import subprocess

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def run(command: str) -> str:
    """Runs a shell command and returns its output and exit code."""
    done = subprocess.run(["sh", "-c", command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return f"{done.stdout}exit code {done.returncode}"


model = ChatOpenAI(model="scripted", base_url=os.environ["MODEL_URL"] + "/v1", api_key="none").bind_tools([run])
messages = [HumanMessage(os.environ.get("PROMPT", "Do the work."))]
while True:
    reply = model.invoke(messages)
    messages.append(reply)
    if not reply.tool_calls:
        break
    for call in reply.tool_calls:
        result = run.invoke(call)
        print(result.content, flush=True)
        messages.append(result)
print(reply.content)
raise SystemExit(reply.content != "done")
