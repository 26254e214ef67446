/* Sockets: what may be made, and whom they reach. */
#include "probe.h"
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef MSG_FASTOPEN
#define MSG_FASTOPEN 0x20000000
#endif

static int new_socket(long family, long type, long protocol) {
    return reached_if(syscall(SYS_socket, family, type, protocol));
}

static struct sockaddr_in address4(const char *host, long port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    return address;
}

static int connect4(int protocol, const char *host, long port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocol);
    if (fd < 0)
        return REFUSED;
    struct timeval second = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof second);
    struct sockaddr_in address = address4(host, port);
    return reached_if(connect(fd, (struct sockaddr *)&address, sizeof address));
}

static int send4(const char *host, long port, const void *bytes, size_t length) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return REFUSED;
    struct sockaddr_in address = address4(host, port);
    return reached_if(sendto(fd, bytes, length, 0, (struct sockaddr *)&address, sizeof address));
}

static int connect6(const char *host, long port) {
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return REFUSED;
    struct timeval second = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof second);
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    inet_pton(AF_INET6, host, &address.sin6_addr);
    return reached_if(connect(fd, (struct sockaddr *)&address, sizeof address));
}

#define PORT(name, variable)                                                                       \
    long name = number(variable, 0);                                                               \
    if (name <= 0)                                                                                 \
    return NO_TARGET

int probe_unix_abstract(void) {
    TARGET(name, "PROBE_ABSTRACT");
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return REFUSED;
    socklen_t length = unix_address(&address, name, 1);
    return reached_if(connect(fd, (struct sockaddr *)&address, length));
}
int probe_unix_path(void) {
    TARGET(path, "PROBE_SOCK");
    return unix_socket(SOCK_STREAM, path, 0);
}
static int send_unix(const char *path, int with_message) {
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return REFUSED;
    socklen_t length = unix_address(&address, path, 0);
    if (!with_message)
        return reached_if(sendto(fd, "x", 1, 0, (struct sockaddr *)&address, length));
    struct iovec bytes = {"x", 1};
    struct mmsghdr message = {.msg_hdr = {&address, length, &bytes, 1, NULL, 0, 0}, .msg_len = 0};
    return reached_if(sendmmsg(fd, &message, 1, 0));
}
int probe_unix_dgram_sendto(void) {
    TARGET(path, "PROBE_DGRAM");
    return send_unix(path, 0);
}
int probe_unix_dgram_sendmmsg(void) {
    TARGET(path, "PROBE_DGRAM");
    return send_unix(path, 1);
}
int probe_unix_dgram_connect(void) {
    TARGET(path, "PROBE_DGRAM");
    return unix_socket(SOCK_DGRAM, path, 0);
}
int probe_socket_in_workspace(void) {
    TARGET(path, "PROBE_WS_SOCK");
    return unix_socket(SOCK_STREAM, path, 0);
}
int probe_socket_in_workspace_dgram(void) {
    TARGET(path, "PROBE_WS_DGRAM");
    return send_unix(path, 0);
}
int probe_unix_socket_create(void) { return new_socket(AF_UNIX, SOCK_STREAM, 0); }
int probe_unix_socketpair(void) {
    int ends[2];
    return reached_if(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
}
/* The end of a datagram pair needs no socket() and no connect() to reach a path. */
int probe_unix_pair_dgram_sendto(void) {
    TARGET(path, "PROBE_WS_DGRAM");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int ends[2];
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) < 0)
        return REFUSED;
    return reached_if(sendto(ends[0], "x", 1, 0, (struct sockaddr *)&to, sizeof to));
}
int probe_net_unix_list(void) {
    TARGET(name, "PROBE_ABSTRACT");
    char line[512];
    FILE *list = fopen("/proc/net/unix", "r");
    if (list == NULL)
        return REFUSED;
    while (fgets(line, sizeof line, list) != NULL)
        if (strstr(line, name) != NULL)
            return REACHED;
    detail("not listed");
    return NOT_SO;
}

int probe_tcp_connect_host_loopback(void) {
    PORT(port, "PROBE_VICTIM_PORT");
    return connect4(0, "127.0.0.1", port);
}
int probe_tcp_fastopen_sendto(void) {
    PORT(port, "PROBE_VICTIM_PORT");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = address4("127.0.0.1", port);
    return reached_if(sendto(fd, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&to, sizeof to));
}
int probe_mptcp_connect(void) {
    PORT(port, "PROBE_VICTIM_PORT");
    return connect4(IPPROTO_MPTCP, "127.0.0.1", port);
}
int probe_tcp6_mapped(void) {
    PORT(port, "PROBE_VICTIM_PORT");
    return connect6("::ffff:127.0.0.1", port);
}
int probe_tcp6_loopback(void) {
    PORT(port, "PROBE_VICTIM_PORT");
    /* Refused by the peer means that the packet arrived: only in this namespace's own loopback. */
    int result = connect6("::1", port);
    if (result == REFUSED && errno == ECONNREFUSED)
        detail("arrived at this namespace's own loopback");
    return result;
}
int probe_tcp6_outside(void) { return connect6("2001:4860:4860::8888", 53); }
int probe_tcp_metadata(void) { return connect4(0, "169.254.169.254", 80); }
int probe_tcp_outside(void) { return connect4(0, "8.8.8.8", 53); }
int probe_tcp_host_ip(void) {
    TARGET(list, "PROBE_HOST_IP");
    PORT(port, "PROBE_HOST_PORT");
    char copy[512], *rest = NULL;
    int last = ENOENT;
    snprintf(copy, sizeof copy, "%s", list);
    for (char *ip = strtok_r(copy, ", ", &rest); ip != NULL; ip = strtok_r(NULL, ", ", &rest)) {
        int result = strchr(ip, ':') != NULL ? connect6(ip, port) : connect4(0, ip, port);
        if (result == REACHED || errno == ECONNREFUSED) {
            detail("%s", ip);
            return REACHED;
        }
        last = errno;
    }
    errno = last;
    return REFUSED;
}
int probe_udp_to_host_loopback(void) {
    PORT(port, "PROBE_VICTIM_UDP");
    return send4("127.0.0.1", port, "x", 1);
}
int probe_udp_dns_8888(void) {
    static const char query[] = "\1\2\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1";
    return send4("8.8.8.8", 53, query, sizeof query - 1);
}
int probe_udp_broadcast(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in to = address4("255.255.255.255", 9);
    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
    return reached_if(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof to));
}
int probe_tcp_bind_any(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in any = address4("0.0.0.0", 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof any) < 0)
        return REFUSED;
    return reached_if(listen(fd, 1));
}
int probe_tcp_bind_low(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in low = address4("127.0.0.1", 443);
    return fd < 0 ? REFUSED : reached_if(bind(fd, (struct sockaddr *)&low, sizeof low));
}

int probe_sctp_socket(void) { return new_socket(AF_INET, SOCK_SEQPACKET, 132); }
int probe_dccp_socket(void) { return new_socket(AF_INET, 6, 33); }
int probe_udplite_socket(void) { return new_socket(AF_INET, SOCK_DGRAM, 136); }
int probe_smc_socket(void) { return new_socket(43, SOCK_STREAM, 0); }
int probe_icmp_dgram(void) { return new_socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP); }
int probe_icmp6_dgram(void) { return new_socket(AF_INET6, SOCK_DGRAM, 58); }
int probe_raw_icmp(void) { return new_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }
int probe_raw_ip(void) { return new_socket(AF_INET, SOCK_RAW, IPPROTO_RAW); }
int probe_raw_ip6(void) { return new_socket(AF_INET6, SOCK_RAW, IPPROTO_RAW); }
int probe_af_packet(void) { return new_socket(AF_PACKET, SOCK_RAW, htons(3)); }
int probe_af_packet_dgram(void) { return new_socket(AF_PACKET, SOCK_DGRAM, htons(3)); }
int probe_af_netlink_route(void) { return new_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE); }
int probe_af_netlink_audit(void) { return new_socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT); }
int probe_af_netlink_generic(void) { return new_socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC); }
int probe_af_netlink_sock_diag(void) { return new_socket(AF_NETLINK, SOCK_RAW, 4); }
int probe_af_netlink_uevent(void) { return new_socket(AF_NETLINK, SOCK_RAW, 15); }
int probe_af_netlink_netfilter(void) { return new_socket(AF_NETLINK, SOCK_RAW, 12); }
int probe_af_vsock(void) { return new_socket(AF_VSOCK, SOCK_STREAM, 0); }
int probe_af_xdp(void) { return new_socket(44, SOCK_RAW, 0); }
int probe_af_alg(void) { return new_socket(AF_ALG, SOCK_SEQPACKET, 0); }
int probe_af_key(void) { return new_socket(AF_KEY, SOCK_RAW, 2); }
int probe_af_bluetooth(void) { return new_socket(AF_BLUETOOTH, SOCK_RAW, 1); }

/* The same with bit 32 set, which the kernel does not look at. */
enum { BIT32 = 32 };
static const long high = 1L << BIT32;
int probe_x08_socket_vsock(void) { return new_socket(AF_VSOCK | high, SOCK_STREAM, 0); }
int probe_x08_socket_netlink(void) { return new_socket(AF_NETLINK | high, SOCK_RAW, NETLINK_AUDIT); }
int probe_x08_socket_type(void) { return new_socket(AF_INET, SOCK_RAW | high, IPPROTO_ICMP); }
int probe_x08_socket_mptcp(void) { return new_socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP | high); }
int probe_x08_socket_family_all(void) {
    return new_socket(AF_NETLINK | high << 1, SOCK_RAW | high, NETLINK_GENERIC | high);
}

int probe_x50_families(void) {
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET};
    char found[128] = "";
    for (int family = 0; family <= 46; family++) {
        if (family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_NETLINK)
            continue;
        for (int i = 0; i < 4; i++)
            if (new_socket(family, types[i], 0) == REACHED) {
                size_t used = strlen(found);
                snprintf(found + used, sizeof found - used, "%d ", family);
                break;
            }
    }
    detail("families: %s", *found != '\0' ? found : "none");
    return *found != '\0' ? REACHED : NOT_SO;
}
int probe_net_any_socket(void) {
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET};
    for (int family = 0; family <= 46; family++)
        for (int i = 0; i < 4; i++)
            if (new_socket(family, types[i], 0) == REACHED) {
                detail("family %d type %d", family, types[i]);
                return REACHED;
            }
    detail("no family, no type");
    return NOT_SO;
}
int probe_vsock_connect(void) {
    struct {
        uint16_t family, zero;
        uint32_t port, cid;
        uint8_t rest[4];
    } host = {AF_VSOCK, 0, 1024, 2, {0}};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return REFUSED;
    int result = connect(fd, (struct sockaddr *)&host, sizeof host);
    return errno == ECONNRESET ? reached_past(result, ECONNRESET) : reached_past(result, EINPROGRESS);
}

/* Asks for one change by netlink and reads the kernel's answer. */
static int route_request(uint16_t type, uint16_t flags, const void *body, size_t length) {
    struct {
        struct nlmsghdr head;
        char body[128];
    } request = {{(uint32_t)NLMSG_LENGTH(length), type, (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags),
                  1, 0},
                 {0}};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return REFUSED;
    memcpy(request.body, body, length);
    if (send(fd, &request, request.head.nlmsg_len, 0) < 0)
        return REFUSED;
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
        char rest[512];
    } answer;
    if (recv(fd, &answer, sizeof answer, 0) < 0)
        return REFUSED;
    if (answer.head.nlmsg_type != NLMSG_ERROR)
        return REACHED;
    errno = -answer.error.error;
    return errno == 0 ? REACHED : REFUSED;
}

struct new_address {
    struct ifaddrmsg message;
    struct rtattr local;
    uint8_t ip[4];
};
int probe_netlink_newaddr(void) {
    struct new_address lo = {{AF_INET, 32, 0, 0, 1}, {8, IFA_LOCAL}, {127, 99, 99, 99}};
    int result = route_request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &lo, sizeof lo);
    int error = errno;
    if (result == REACHED)
        route_request(RTM_DELADDR, 0, &lo, sizeof lo);
    errno = error;
    return result;
}
int probe_netlink_setlink(void) {
    struct ifinfomsg lo = {.ifi_family = AF_UNSPEC, .ifi_index = 1}; /* changes nothing */
    return route_request(RTM_NEWLINK, 0, &lo, sizeof lo);
}
int probe_netlink_newroute(void) {
    struct {
        struct rtmsg message;
        struct rtattr to;
        uint8_t ip[4];
        struct rtattr by;
        uint32_t index;
    } route = {{AF_INET, 32, 0, 0, 254, 4, 253, 1, 0}, {8, RTA_DST}, {198, 51, 100, 77},
               {8, RTA_OIF}, 1};
    int result = route_request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &route, sizeof route);
    int error = errno;
    if (result == REACHED)
        route_request(RTM_DELROUTE, 0, &route, sizeof route);
    errno = error;
    return result;
}
int probe_ifflags(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq lo = {.ifr_ifrn = {.ifrn_name = "lo"}};
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &lo) < 0)
        return REFUSED;
    return reached_if(ioctl(fd, SIOCSIFFLAGS, &lo));
}
int probe_x42_tun(void) {
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    struct ifreq tap = {.ifr_ifrn = {.ifrn_name = "agtprobe0"}};
    tap.ifr_flags = 2 | 0x1000;
    return fd < 0 ? REFUSED : reached_if(ioctl(fd, _IOW('T', 202, int), &tap));
}
