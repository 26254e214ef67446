#!/usr/bin/env python3
"""Checks a proof of agt-supervisor's audit log, with nothing but Python's standard library.

    agt_verify.py proof.json [PUBLIC-KEY]

The proof (`audit prove N`) holds one record, its path to the root of the tree, and the signed head.
Give the key that you had from elsewhere: the one inside the proof only shows that it fits itself.
The format is described in docs/audit-format.md. Exit: 0 it holds, 1 it does not, 2 it is no proof.
"""
import base64, hashlib, json, sys


def head(note, vkey):
    """The size and root of a C2SP checkpoint that this key signed."""
    name, ident, key = vkey.split("+", 2)
    text, signatures = note.split("\n\n", 1)
    key = base64.b64decode(key, validate=True)
    if key[:1] != b"\1" or hashlib.sha256(name.encode() + b"\n" + key).digest()[:4].hex() != ident:
        raise ValueError("no Ed25519 key, or not with its own id")
    for line in signatures.splitlines():
        dash, of, signature = line.split(" ")
        signature = base64.b64decode(signature, validate=True)
        if (dash, of, signature[:4].hex()) == ("—", name, ident) and signed(key[1:], f"{text}\n".encode(), signature[4:]):
            _origin, size, root = text.splitlines()
            return int(size), base64.b64decode(root, validate=True)
    raise ValueError("the checkpoint is not signed by this key")


def root_of(leaf, index, size, path):
    """The root that a leaf and its path lead to (RFC 6962, 2.1): the last step joins the two halves of the tree."""
    if size == 1 and index == 0 and not path:
        return leaf
    if not 0 <= index < size or not path:
        raise ValueError("the path does not fit the record's place")
    left = 1 << (size - 1).bit_length() - 1
    if index < left:
        return hashlib.sha256(b"\1" + root_of(leaf, index, left, path[:-1]) + path[-1]).digest()
    return hashlib.sha256(b"\1" + path[-1] + root_of(leaf, index - left, size - left, path[:-1])).digest()


def verify(proof, vkey=None):
    """The record of a proof that holds; an error says why it does not."""
    size, root = head(proof["checkpoint"], vkey or proof["key"])
    leaf = hashlib.sha256(b"\0" + proof["line"].encode()).digest()
    if size != proof["size"] or root_of(leaf, proof["index"], size, [bytes.fromhex(step) for step in proof["path"]]) != root:
        raise ValueError("the record is not in the tree that was signed")
    record = json.loads(proof["line"])
    if record["seq"] != proof["index"]:
        raise ValueError("the record has another number")
    return record


# Ed25519 as RFC 8032 has it (5.1.3, 5.1.7): the standard library has none.
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def point(data):
    y, sign = int.from_bytes(data, "little") & 2**255 - 1, data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P
    if len(data) != 32 or y >= P or x * x % P != square or (x == 0 and sign):
        raise ValueError("no point of the curve")
    return (x if x & 1 == sign else P - x), y


def add(a, b):
    (x, y), (u, v) = a, b
    t = D * x * y * u * v
    return (x * v + y * u) * pow(1 + t, -1, P) % P, (y * v + x * u) * pow(1 - t, -1, P) % P


def times(n, a):
    return add(times(n >> 1, add(a, a)), a if n & 1 else (0, 1)) if n else (0, 1)


def signed(key, message, signature):
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    h = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L
    base = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
    return len(signature) == 64 and s < L and times(s, base) == add(point(r), times(h, point(key)))


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
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        print(f"does not hold: {error}", file=sys.stderr)
        sys.exit(1)
    action = record.get("action") or {}
    what = [record["kind"], action.get("kind"), action.get("tool"), record.get("verdict"), record.get("rule")]
    print(f"holds: record {record['seq']} of {proof['size']}, {' · '.join(filter(None, what))}, at {record['time']}")
