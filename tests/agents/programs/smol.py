#!/usr/bin/env python3
"""A smolagents agent with one tool, `run`. MODEL_URL is the base URL of the model server, without /v1."""

import os
import subprocess

from smolagents import OpenAIServerModel, ToolCallingAgent, tool


@tool
def run(command: str) -> str:
    """Runs a shell command and returns its output and exit code.

    Args:
        command: the command line, for sh
    """
    done = subprocess.run(["sh", "-c", command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return f"{done.stdout}exit code {done.returncode}"


model = OpenAIServerModel(model_id="scripted", api_base=os.environ["MODEL_URL"] + "/v1", api_key="none")
agent = ToolCallingAgent(tools=[run], model=model, max_steps=50)
answer = agent.run(os.environ.get("PROMPT", "Do the work."))
print(answer)
raise SystemExit(answer != "done")
