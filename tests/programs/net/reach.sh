# reach.sh: the ways in which programs reach what is allowed; prints `NAME ok` or `NAME failed`.
proxy=198.18.0.1:3128
try() {
    local name=$1 said
    shift
    if said=$("$@" 2>&1); then echo "$name ok"; else echo "$name failed $(tail -n 3 <<<"$said" | tr '\n' ' ')"; fi
}
has() { # has TEXT COMMAND...: whether the command says it
    local text=$1
    shift
    "$@" 2>&1 | grep -aq -- "$text"
}
nothing_set() { ! env | grep -i proxy; }
get="curl -sS --max-time 20"
python() { python3 -c "$@"; }

try nothing-set nothing_set
try http has welcome $get http://ok.test/
try https has welcome $get --cacert ca.pem https://ok.test/
try upper-case has welcome $get http://OK.TEST/
try last-dot has welcome $get http://ok.test./
try other has welcome $get http://other.test/
try wild has welcome $get http://a.b.wild.test/
try ipv6-only has welcome $get http://six.test/
try truncated has welcome $get http://tc.test/
try mixed has welcome $get http://mixed.test/
try hosts-file has welcome $get http://listed.test/
try getent has 198.18. getent hosts ok.test
try static has welcome ./reach ok.test 80
try python has welcome python 'import ssl, urllib.request as r
print(r.urlopen("https://ok.test/", context=ssl.create_default_context(cafile="ca.pem"), timeout=20).read())'
try node has welcome env NODE_EXTRA_CA_CERTS=ca.pem node -e \
    'fetch("https://ok.test/").then(r => r.text()).then(t => console.log(t), e => { console.log(e); process.exit(1) })'
try git git clone -q http://ok.test/repo.git clone
try git-content grep -q cloned clone/file
try banner-and-half-close python 'import socket
s = socket.create_connection(("ok.test", 9000), 20)
assert s.recv(7) == b"banner\n"
data = bytes(range(256)) * 8000
import threading
threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR))).start()
got = b""
while more := s.recv(65536): got += more
assert got == data + b"end %d\n" % len(data), len(got)'
try upgrade has 'banner' $get --max-time 2 --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: echo' http://ok.test:8080/
try http2-by-knowledge python 'import socket
s = socket.create_connection(("ok.test", 8080), 20)
s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
assert s.recv(9)[3] == 4'
big() { $get "$@" | sha256sum | grep -q "$(cat big.sum)"; }
try big big http://ok.test/big
try big-tls big --cacert ca.pem https://ok.test/big
try connect has welcome $get -x http://$proxy --cacert ca.pem https://ok.test/
try connect-plain has welcome $get --proxytunnel -x http://$proxy http://ok.test/
try connect-upper has welcome $get --proxytunnel -x http://$proxy http://OK.TEST/
try connect-last-dot has welcome $get --proxytunnel -x http://$proxy http://ok.test./
try connect-big big -x http://$proxy --cacert ca.pem https://ok.test/big
try socks has welcome $get --socks5-hostname $proxy --cacert ca.pem https://ok.test/
try socks-synthetic has welcome $get --socks5 $proxy --cacert ca.pem https://ok.test/
try host-port has 'from the host' $get http://127.0.0.1:18080/
try host-port-name has 'from the host' $get http://localhost:18080/
export HTTP_PROXY=http://203.0.113.66:3128 http_proxy=http://203.0.113.66:3128 https_proxy=http://203.0.113.66:3128
fails() { ! "$@"; }
try proxy-elsewhere fails $get http://ok.test/
try no-proxy env NO_PROXY='*' no_proxy='*' $get http://ok.test/
