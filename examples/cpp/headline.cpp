// The smallest task queue that C++ can do: tasks as JSON texts in a queue behind one mutex, four threads that take one at a
// time, parse it and add up one field. It keeps nothing, retries nothing and answers nobody; `millrace bench --rows 14` runs
// it beside Millrace's own queue in memory, which does.
//
//   g++ -std=c++17 -O2 -pthread headline.cpp -o headline
//   ./headline RUNS THREADS FIELD < payloads      one JSON object a line
//
// Prints one JSON object a run: the sum, and nanoseconds from before the threads are started to after they are joined
// (`startedNs`), and from when all of them wait at a gate to after the last task was done (`gatedNs`).

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <queue>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

namespace {

using Value = std::variant<std::nullptr_t, bool, double, std::string>;
using Object = std::vector<std::pair<std::string, Value>>;

// A flat object of strings, numbers, booleans and nulls, which is what the tasks are; throws for anything else.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Object object() {
    Object members;
    members.reserve(8);
    expect('{');
    if (!take('}')) {
      do {
        std::string key = string();
        expect(':');
        members.emplace_back(std::move(key), value());
      } while (take(','));
      expect('}');
    }
    space();
    if (at_ != text_.size()) fail();
    return members;
  }

 private:
  Value value() {
    space();
    const char first = at_ < text_.size() ? text_[at_] : '\0';
    if (first == '"') return string();
    if (word("true")) return true;
    if (word("false")) return false;
    if (word("null")) return nullptr;
    return number();
  }

  std::string string() {
    expect('"');
    std::string out;
    for (;;) {
      const std::size_t from = at_;
      while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' && static_cast<unsigned char>(text_[at_]) >= ' ') at_++;
      out.append(text_.substr(from, at_ - from));
      if (at_ >= text_.size() || static_cast<unsigned char>(text_[at_]) < ' ') fail();
      if (text_[at_++] == '"') return out;
      out.push_back(escape());
    }
  }

  // Not \u: nothing outside ASCII is sent.
  char escape() {
    if (at_ >= text_.size()) fail();
    switch (text_[at_++]) {
      case '"': return '"';
      case '\\': return '\\';
      case '/': return '/';
      case 'b': return '\b';
      case 'f': return '\f';
      case 'n': return '\n';
      case 'r': return '\r';
      case 't': return '\t';
      default: fail();
    }
  }

  double number() {
    const std::size_t from = at_;
    const bool negative = at_ < text_.size() && text_[at_] == '-';
    if (negative) at_++;
    std::uint64_t whole = 0;
    const std::size_t digits = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') whole = whole * 10 + (text_[at_++] - '0');
    if (at_ == digits) fail();
    const char next = at_ < text_.size() ? text_[at_] : '\0';
    if (next != '.' && next != 'e' && next != 'E' && at_ - digits <= 15) return negative ? -double(whole) : double(whole);
    // Fractions and what a double holds only in part, which strtod knows how to round.
    while (at_ < text_.size() && std::string_view("0123456789.eE+-").find(text_[at_]) != std::string_view::npos) at_++;
    const std::string digitsText(text_.substr(from, at_ - from));
    char* end = nullptr;
    const double parsed = std::strtod(digitsText.c_str(), &end);
    if (end != digitsText.c_str() + digitsText.size()) fail();
    return parsed;
  }

  bool word(std::string_view wanted) {
    if (text_.substr(at_, wanted.size()) != wanted) return false;
    at_ += wanted.size();
    return true;
  }

  void space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) at_++;
  }

  bool take(char wanted) {
    space();
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    at_++;
    return true;
  }

  void expect(char wanted) {
    if (!take(wanted)) fail();
  }

  [[noreturn]] void fail() { throw std::runtime_error("no flat JSON object: " + std::string(text_)); }

  std::string_view text_;
  std::size_t at_ = 0;
};

class Queue {
 public:
  void push(std::string task) {
    const std::lock_guard<std::mutex> lock(mutex_);
    tasks_.push(std::move(task));
  }

  // False when nothing is left.
  bool pop(std::string& task) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (tasks_.empty()) return false;
    task = std::move(tasks_.front());
    tasks_.pop();
    return true;
  }

 private:
  std::mutex mutex_;
  std::queue<std::string> tasks_;
};

double fieldOf(const Object& object, const std::string& field) {
  for (const auto& [key, value] : object) {
    if (key == field) return std::get<double>(value);
  }
  throw std::runtime_error("a task has no " + field);
}

struct Share {
  double sum = 0;
  std::uint64_t tasks = 0;
};

Share drain(Queue& queue, const std::string& field) {
  Share share;
  std::string task;
  while (queue.pop(task)) {
    share.sum += fieldOf(Parser(task).object(), field);
    share.tasks++;
  }
  return share;
}

using Clock = std::chrono::steady_clock;

std::int64_t nanoseconds(Clock::duration span) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(span).count();
}

void run(const std::vector<std::string>& payloads, unsigned threadCount, const std::string& field) {
  Queue queue;
  for (const std::string& payload : payloads) queue.push(payload);
  std::vector<Share> shares(threadCount);
  std::vector<std::thread> threads;
  std::atomic<unsigned> waiting{0};
  std::atomic<bool> open{false};

  const Clock::time_point started = Clock::now();
  for (unsigned index = 0; index < threadCount; index++) {
    threads.emplace_back([&, index] {
      waiting++;
      while (!open.load(std::memory_order_acquire)) std::this_thread::yield();
      shares[index] = drain(queue, field);
    });
  }
  while (waiting.load() < threadCount) std::this_thread::yield();
  const Clock::time_point gated = Clock::now();
  open.store(true, std::memory_order_release);
  for (std::thread& thread : threads) thread.join();
  const Clock::time_point ended = Clock::now();

  Share all;
  for (const Share& share : shares) {
    all.sum += share.sum;
    all.tasks += share.tasks;
  }
  std::cout << "{\"tasks\":" << all.tasks << ",\"sum\":" << std::uint64_t(all.sum)
            << ",\"startedNs\":" << nanoseconds(ended - started) << ",\"gatedNs\":" << nanoseconds(ended - gated) << "}\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: headline RUNS THREADS FIELD < payloads\n";
    return 2;
  }
  std::vector<std::string> payloads;
  for (std::string line; std::getline(std::cin, line);) payloads.push_back(line);
  try {
    for (int left = std::atoi(argv[1]); left > 0; left--) run(payloads, unsigned(std::atoi(argv[2])), argv[3]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
