// Puts tasks into a queue of Millrace and takes tasks out of it, with rabbitmq-c:
//
//   g++ -std=c++17 -O2 -o tasks tasks.cpp -lrabbitmq
//   AMQP_URL=amqp://127.0.0.1 ./tasks send 10
//   AMQP_URL=amqp://127.0.0.1 ./tasks work 10

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_tcp_socket.h>
#endif

#include <cstdlib>
#include <cstring>
#include <iostream>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

static const char *const QUEUE = "millrace.reports";
static const amqp_channel_t CHANNEL = 1;

static void check(const amqp_rpc_reply_t &reply, const char *what) {
  if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
  std::string why = "the broker refused it";
  if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) why = amqp_error_string2(reply.library_error);
  throw std::runtime_error(std::string(what) + ": " + why);
}

static void check(int status, const char *what) {
  if (status != AMQP_STATUS_OK) throw std::runtime_error(std::string(what) + ": " + amqp_error_string2(status));
}

class Connection {
public:
  explicit Connection(const char *url) : state(amqp_new_connection()) {
    std::vector<char> text(url, url + std::strlen(url) + 1);
    amqp_connection_info info;
    amqp_default_connection_info(&info);
    // Cuts the text into the parts that `info` points at.
    check(amqp_parse_url(text.data(), &info), "AMQP_URL");
    amqp_socket_t *socket = amqp_tcp_socket_new(state);
    check(amqp_socket_open(socket, info.host, info.port), "connecting");
    check(amqp_login(state, info.vhost, 0, 131072, 60, AMQP_SASL_METHOD_PLAIN, info.user, info.password), "login");
    amqp_channel_open(state, CHANNEL);
    check(amqp_get_rpc_reply(state), "channel");
  }
  Connection(const Connection &) = delete;
  ~Connection() {
    amqp_connection_close(state, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(state);
  }
  const amqp_connection_state_t state;
};

static void send(Connection &connection, int count) {
  amqp_connection_state_t state = connection.state;
  amqp_confirm_select(state, CHANNEL);
  check(amqp_get_rpc_reply(state), "confirm.select");
  // A queue that is not there would mean that what is sent goes nowhere.
  amqp_queue_declare(state, CHANNEL, amqp_cstring_bytes(QUEUE), /* passive */ 1, 1, 0, 0, amqp_empty_table);
  check(amqp_get_rpc_reply(state), "looking for the queue (start a Millrace worker of it first)");

  amqp_basic_properties_t properties{};
  properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG;
  properties.content_type = amqp_cstring_bytes("application/json");
  properties.delivery_mode = AMQP_DELIVERY_PERSISTENT;
  for (int number = 0; number < count; ++number) {
    const std::string body =
        R"({"task": "report.build", "payload": {"month": "2026-11", "number": )" + std::to_string(number) + "}}";
    check(amqp_basic_publish(state, CHANNEL, amqp_empty_bytes, amqp_cstring_bytes(QUEUE), 0, 0, &properties,
                             amqp_bytes_t{body.size(), const_cast<char *>(body.data())}),
          "publishing");
  }
  // The broker answers when they are on disk: for one, or for all up to one.
  std::set<uint64_t> open;
  for (int tag = 1; tag <= count; ++tag) open.insert(tag);
  while (!open.empty()) {
    amqp_frame_t frame;
    amqp_maybe_release_buffers(state);
    check(amqp_simple_wait_frame(state, &frame), "waiting for confirms");
    if (frame.frame_type != AMQP_FRAME_METHOD) continue;
    if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD) throw std::runtime_error("the broker did not take a task");
    const auto *ack = static_cast<amqp_basic_ack_t *>(frame.payload.method.decoded);
    if (ack->multiple) {
      open.erase(open.begin(), open.upper_bound(ack->delivery_tag));
    } else {
      open.erase(ack->delivery_tag);
    }
  }
  std::cout << count << " tasks are in the queue" << std::endl;
}

static void work(Connection &connection, int count) {
  amqp_connection_state_t state = connection.state;
  amqp_basic_qos(state, CHANNEL, 0, 20, 0);
  check(amqp_get_rpc_reply(state), "basic.qos");
  amqp_basic_consume(state, CHANNEL, amqp_cstring_bytes(QUEUE), amqp_empty_bytes, 0, /* no_ack */ 0, 0,
                     amqp_empty_table);
  check(amqp_get_rpc_reply(state), "basic.consume");
  for (int done = 0; done < count; ++done) {
    amqp_envelope_t envelope;
    amqp_maybe_release_buffers(state);
    check(amqp_consume_message(state, &envelope, nullptr, 0), "waiting for a task");
    // JSON: {"task": …, "payload": …, …}, for the parser of your choice.
    std::cout << std::string(static_cast<char *>(envelope.message.body.bytes), envelope.message.body.len) << std::endl;
    // Only now that the work is done: until then the broker gives the task to another, should this process die.
    check(amqp_basic_ack(state, CHANNEL, envelope.delivery_tag, 0), "basic.ack");
    amqp_destroy_envelope(&envelope);
  }
}

int main(int argc, char **argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const int count = argc > 2 ? std::atoi(argv[2]) : 1;
  const char *url = std::getenv("AMQP_URL");
  if (what != "send" && what != "work") {
    std::cerr << "usage: tasks send|work [COUNT]" << std::endl;
    return 2;
  }
  try {
    Connection connection(url == nullptr ? "amqp://127.0.0.1" : url);
    what == "send" ? send(connection, count) : work(connection, count);
    return 0;
  } catch (const std::exception &error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}
