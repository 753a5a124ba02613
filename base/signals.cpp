#include "base/signals.h"

#include <csignal>

namespace echo {
namespace {

volatile std::sig_atomic_t stop_requested = 0;
struct sigaction previous_interrupt, previous_terminate;

void on_signal(int) { stop_requested = 1; }

void install(int signal, struct sigaction& previous) {
  struct sigaction action {};
  action.sa_handler = on_signal;
  // SA_RESETHAND: a second signal has the system's default action. SA_RESTART: interrupted reads and writes continue.
  action.sa_flags = int(SA_RESETHAND) | SA_RESTART;
  sigaction(signal, &action, &previous);
}

}  // namespace

StopOnSignal::StopOnSignal() {
  stop_requested = 0;
  install(SIGINT, previous_interrupt);
  install(SIGTERM, previous_terminate);
}

StopOnSignal::~StopOnSignal() {
  sigaction(SIGINT, &previous_interrupt, nullptr);
  sigaction(SIGTERM, &previous_terminate, nullptr);
}

bool StopOnSignal::requested() const { return stop_requested != 0; }

}  // namespace echo
