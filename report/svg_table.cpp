#include <algorithm>

#include "base/error.h"
#include "report/svg.h"
#include "report/svg_canvas.h"

namespace echo {
namespace {

constexpr double kRowHeight = 30, kFontSize = 14;
constexpr double kCharacterWidth = 0.62 * kFontSize;  // of a wide sans-serif font, on average
constexpr double kGap = 26;                           // between columns, and at both ends of a row

// Number of characters: UTF-8 continuation bytes are not counted.
size_t characters(const std::string& text) {
  return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

std::string svg_table(const SvgTable& table, SvgUse use) {
  const size_t columns = table.headers.size();
  ECHO_CHECK(columns > 0, "table picture: no columns");
  std::vector<double> right;  // right edge of each column
  for (size_t column = 0; column < columns; ++column) {
    size_t widest = characters(table.headers[column]);
    for (const auto& row : table.rows) {
      ECHO_CHECK(row.size() == columns, "table picture: a row of ", row.size(), " cells under ", columns, " headers");
      widest = std::max(widest, characters(row[column]));
    }
    right.push_back((right.empty() ? 0 : right.back()) + kGap + kCharacterWidth * double(widest));
  }
  const double width = right.back() + kGap;

  SvgCanvas canvas;
  const auto line = [&](const std::vector<std::string>& cells, size_t index, std::string_view ink, std::string_view extra) {
    const double baseline = kRowHeight * (double(index) + 0.66);
    for (size_t column = 0; column < columns; ++column)
      canvas.text(column == 0 ? kGap : right[column], baseline, column == 0 ? "start" : "end", ink, kFontSize, cells[column],
                  extra);
  };
  for (size_t row = 0; row < table.rows.size(); row += 2)
    canvas.add("<rect x=\"{:.0f}\" y=\"{:.0f}\" width=\"{:.1f}\" height=\"{:.0f}\" class=\"band\" fill-opacity=\"0.5\"/>\n",
               kGap / 2, kRowHeight * double(row + 1), width - kGap, kRowHeight);
  line(table.headers, 0, "soft-ink", "font-weight=\"600\"");
  for (size_t row = 0; row < table.rows.size(); ++row) line(table.rows[row], row + 1, "ink", "");
  return canvas.finish(width, kRowHeight * double(table.rows.size() + 1) + kGap / 2, table.title, use);
}

}  // namespace echo
