#pragma once

#include <fmt/format.h>

#include <iterator>
#include <string>
#include <string_view>

#include "report/html.h"
#include "report/svg.h"

namespace echo {

// The body of an SVG picture that is being written. The pictures of report/svg.h use it.
class SvgCanvas {
 public:
  // Appends formatted markup. The caller escapes texts.
  template <class... Values>
  void add(fmt::format_string<Values...> format, Values&&... values) {
    fmt::format_to(std::back_inserter(body_), format, std::forward<Values>(values)...);
  }

  // Text at a point; `anchor` is start, middle or end.
  void text(double x, double y, std::string_view anchor, std::string_view css_class, double size, std::string_view content,
            std::string_view extra = "") {
    add("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" class=\"{}\" font-size=\"{:.1f}\"{}{}>{}</text>\n", x, y, anchor,
        css_class, size, extra.empty() ? "" : " ", extra, escape_html(content));
  }

  // Returns the whole picture with this size.
  std::string finish(double width, double height, std::string_view title, SvgUse use) const;

 private:
  std::string body_;
};

}  // namespace echo
