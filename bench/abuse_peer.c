// SPDX-License-Identifier: MIT
//
// The peer of ./dev bench abuse: the least that can be made with libmicrohttpd, beside nothing. It answers 401 to all and has the
// limits that libmicrohttpd has by itself. Prints its port; ends with its input.

#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_size, void **con_cls)
{
    static char text[] = "a token is needed\n";
    (void)cls, (void)url, (void)method, (void)version, (void)data;
    if (!*con_cls) {
        *con_cls = text; // the headers are there
        return MHD_YES;
    }
    if (*data_size) {
        *data_size = 0;
        return MHD_YES;
    }
    struct MHD_Response *r =
        MHD_create_response_from_buffer(sizeof text - 1, text, MHD_RESPMEM_PERSISTENT);
    enum MHD_Result rc = r ? MHD_queue_response(connection, MHD_HTTP_UNAUTHORIZED, r) : MHD_NO;
    MHD_destroy_response(r);
    return rc;
}

int main(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct MHD_Daemon *d = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, on_request, NULL, MHD_OPTION_SOCK_ADDR, &any,
        MHD_OPTION_CONNECTION_LIMIT, 128U, MHD_OPTION_PER_IP_CONNECTION_LIMIT, 64U,
        MHD_OPTION_CONNECTION_TIMEOUT, 10U, MHD_OPTION_END);
    const union MHD_DaemonInfo *port = d ? MHD_get_daemon_info(d, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    if (!port)
        return 1;
    printf("%u\n", port->port);
    fflush(stdout);
    while (getchar() != EOF)
        ;
    MHD_stop_daemon(d);
    return 0;
}
