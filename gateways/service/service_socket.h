/* service_socket.h - the two nng sockets of the service gateway: raw REP for requests, PUB for the
 * feed. Thread: the gateway's; peers are judged on nng's threads. Nothing here blocks. */
#pragma once

#include "gateways/service/service_priv.h"

enum { SERVICE_URL_MAX = 160 };

/* The feed's url for a url of requests. TW_E_BAD_CONFIG: a transport that is not offered, tcp off
 * loopback, a bad port. */
tw_err service_feed_url(const char *url, char out[SERVICE_URL_MAX]);

/* Listens at url and at its feed's. TW_E_BAD_CONFIG as above; TW_E_CONFLICT: in use; why then says
 * it in words. */
tw_err service_socket_open(service_socket **out, const char *url, char *why, size_t size);
void service_socket_close(service_socket **socket);
int service_socket_fd(const service_socket *socket); /* readable when a request waits */
/* The next request; the body is valid until the next call. TW_E_END: none waits. */
tw_err service_socket_receive(service_socket *socket, service_route *route, tw_str *body);
tw_err service_socket_reply(service_socket *socket, const service_route *route, tw_str body);
tw_err service_socket_publish(service_socket *socket, tw_str topic, tw_str body);
/* To be called each second: replaces a listener that nng has let die. */
void service_socket_guard(service_socket *socket);
uint64_t service_socket_followers(const service_socket *socket);
uint64_t service_socket_peers(const service_socket *socket);
uint64_t service_socket_refused(const service_socket *socket); /* peers of another user */
uint64_t service_socket_relistened(const service_socket *socket);
