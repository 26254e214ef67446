#!/usr/bin/env python3
"""Checks a proof of agt-supervisor's audit log, with nothing but Python's standard library.

    agt_verify.py proof.json [PUBLIC-KEY]

The proof (`audit prove N`) holds one record, its path to the root of the tree, and the signed head.
Give the key that you had from elsewhere: the one inside the proof only shows that it fits itself.
The format is described in docs/audit-format.md. Exit: 0 it holds, 1 it does not, 2 it is no proof.
"""
import base64, hashlib, json, sys

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def point(data):
    """A point of the curve (RFC 8032, 5.1.3), or an error."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        raise ValueError("no point of the curve")
    return (P - x if x & 1 != sign else x, y)


def add(a, b):
    (x, y), (u, v) = a, b
    t = D * x * y * u * v
    return ((x * v + y * u) * pow(1 + t, -1, P) % P, (y * v + x * u) * pow(1 - t, -1, P) % P)


def times(n, a):
    sum_ = (0, 1)
    while n:
        sum_, a, n = add(sum_, a) if n & 1 else sum_, add(a, a), n >> 1
    return sum_


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def signed(key, message, signature):
    """Ed25519 (RFC 8032, 5.1.7)."""
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    h = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little")
    return len(signature) == 64 and s < L and times(s, BASE) == add(point(r), times(h % L, point(key)))


def head(note, vkey):
    """The size and root of a C2SP checkpoint that this key signed."""
    name, ident, key = vkey.split("+", 2)
    text, signatures = note.split("\n\n", 1)
    key, text = base64.b64decode(key, validate=True), text + "\n"
    if key[:1] != b"\x01" or hashlib.sha256(name.encode() + b"\n" + key).digest()[:4].hex() != ident:
        raise ValueError("no Ed25519 key, or not with its own id")
    for line in signatures.splitlines():
        dash, of, signature = line.split(" ")
        signature = base64.b64decode(signature, validate=True)
        if (dash, of, signature[:4].hex()) == ("—", name, ident) and signed(key[1:], text.encode(), signature[4:]):
            _origin, size, root = text.splitlines()
            return int(size), base64.b64decode(root, validate=True)
    raise ValueError("the checkpoint is not signed by this key")


def root_of(leaf, index, size, path):
    """The root that a leaf and its path lead to (RFC 9162, 2.1.3.2)."""
    last = size - 1
    if not 0 <= index < size:
        return None
    for step in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            leaf = hashlib.sha256(b"\1" + step + leaf).digest()
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            leaf = hashlib.sha256(b"\1" + leaf + step).digest()
        index, last = index >> 1, last >> 1
    return leaf if last == 0 else None


def verify(proof, vkey=None):
    """The record of a proof that holds; an error says why it does not."""
    line = proof["line"].encode()
    size, root = head(proof["checkpoint"], vkey or proof["key"])
    path = [bytes.fromhex(step) for step in proof["path"]]
    leaf = hashlib.sha256(b"\0" + line).digest()
    if size != proof["size"] or root_of(leaf, proof["index"], size, path) != root:
        raise ValueError("the record is not in the tree that was signed")
    record = json.loads(line)
    if record["seq"] != proof["index"]:
        raise ValueError("the record has another number")
    return record


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        with open(sys.argv[1], encoding="utf-8") as file:
            proof = json.load(file)
        proof["format"] == "agt-proof/1" or sys.exit(2)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{sys.argv[1]}: {error}", file=sys.stderr)
        sys.exit(2)
    try:
        record = verify(proof, *sys.argv[2:])
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        print(f"does not hold: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"holds: record {record['seq']} of {proof['size']}, {record['kind']} at {record['time']}")
