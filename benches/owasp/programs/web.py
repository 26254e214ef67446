"""web.py get URL | post URL FILE: the agent's web tool. `get` prints the page."""

import sys
import urllib.request


def fetch(url, data=None):
    # No proxy of the caller's: the ring's way out needs none.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, data, timeout=5) as answer:
        return answer.read().decode()


if __name__ == "__main__":
    body = None
    if sys.argv[1] == "post":
        with open(sys.argv[3], "rb") as file:
            body = file.read()
    print(fetch(sys.argv[2], body), end="")
