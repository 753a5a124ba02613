#include "base/signals.h"

#include <csignal>

namespace echo {
namespace {

volatile std::sig_atomic_t stop_requested = 0;
struct sigaction previous_interrupt, previous_terminate;
// The handler runs on this stack. While oneDNN's sgemm runs, the memory below the stack pointer is not free, and the frame of a
// handler there would overwrite the heap. The kernel gives a signal to the main thread, which is the one that has this stack.
alignas(64) char handler_stack[1 << 16];
stack_t previous_stack;

void on_signal(int) { stop_requested = 1; }

void install(int signal, struct sigaction& previous) {
  struct sigaction action {};
  action.sa_handler = on_signal;
  // SA_RESETHAND: a second signal has the system's default action. SA_RESTART: interrupted reads and writes continue.
  action.sa_flags = int(SA_RESETHAND) | SA_RESTART | SA_ONSTACK;
  sigaction(signal, &action, &previous);
}

}  // namespace

StopOnSignal::StopOnSignal() {
  stop_requested = 0;
  stack_t stack{};
  stack.ss_sp = handler_stack;
  stack.ss_size = sizeof handler_stack;
  sigaltstack(&stack, &previous_stack);
  install(SIGINT, previous_interrupt);
  install(SIGTERM, previous_terminate);
}

StopOnSignal::~StopOnSignal() {
  sigaction(SIGINT, &previous_interrupt, nullptr);
  sigaction(SIGTERM, &previous_terminate, nullptr);
  sigaltstack(&previous_stack, nullptr);
}

bool StopOnSignal::requested() const { return stop_requested != 0; }

}  // namespace echo
