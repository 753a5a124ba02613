#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace echo {

// Text escaped for HTML and SVG, in content and in quoted attributes: & < > " ' are escaped. Control characters that XML
// forbids and bytes that are not UTF-8 become U+FFFD. So a hostile file name cannot end the document or begin a tag.
std::string escape_html(std::string_view text);

// A table. Every text is escaped. Columns whose flag in `numeric` is set are aligned right.
struct HtmlTable {
  std::vector<std::string> headers;
  std::vector<std::vector<std::string>> rows;
  std::vector<bool> numeric;  // may be shorter than headers: the other columns are text
};
std::string html_table(const HtmlTable& table);

// A separate list of warnings (escaped). "" when there are none.
std::string html_warnings(const std::vector<std::string>& warnings);

// A complete page that loads nothing (its content security policy forbids it): title (escaped) as heading, then `body` (HTML,
// not escaped). Light or dark follows the reader's setting. SVG of report/svg.h takes its colours from this page. `style`:
// additional style rules of this page. The page is well-formed XML.
std::string html_page(std::string_view title, std::string_view body, std::string_view style = "");

}  // namespace echo
