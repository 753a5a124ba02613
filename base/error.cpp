#include "base/error.h"

namespace echo::detail {

void throw_check_failure(const char* file, int line, const std::string& message) {
  throw Error(ExitCode::internal, concat(message, " (", file, ":", line, ")"));
}

}  // namespace echo::detail
