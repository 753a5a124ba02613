#pragma once

// A loss lists its terms once. Its struct of sums has a static function visit(field), which calls
//   field(LossTerm, pointer to member)
// for every member, in a fixed order. Sums, the log with its stored window, and the order in which kernels store the terms of a
// row all follow that list. A member of type double is a sum of errors or nats. A member of type int64_t counts rows.
namespace echo::kernels {

// When a term is computed. Otherwise it is 0 and the log omits it.
enum class Computed { always, with_teacher, with_kl_weight };

struct LossTerm {
  const char* sum;   // the member's name: a sum over rows
  const char* mean;  // the name of its mean over rows, null if the log does not show it
  Computed computed = Computed::always;
};

template <class Terms>
constexpr int count_terms() {
  int count = 0;
  Terms::visit([&](const LossTerm&, auto) { ++count; });
  return count;
}

template <class Terms>
void add_terms(Terms& to, const Terms& from) {
  Terms::visit([&](const LossTerm&, auto member) { to.*member += from.*member; });
}

}  // namespace echo::kernels
