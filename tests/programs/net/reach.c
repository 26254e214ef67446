/* reach HOST PORT: asks for `/`, knows no proxy, is linked statically. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
    static const char request[] = "GET / HTTP/1.0\r\n\r\n";
    struct addrinfo *found, want = {.ai_socktype = SOCK_STREAM};
    char reply[4096];
    ssize_t got;
    if (argc < 3 || getaddrinfo(argv[1], argv[2], &want, &found))
        return 2;
    int fd = socket(found->ai_family, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen))
        return 3;
    if (write(fd, request, strlen(request)) < 0)
        return 4;
    while ((got = read(fd, reply, sizeof reply)) > 0)
        fwrite(reply, 1, got, stdout);
    return got < 0 ? 5 : 0;
}
