#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace echo {

// Pictures as SVG text. All given text is escaped, all numbers may be anything (what is not finite is not drawn).
// inside_page: colours come from the style sheet of html_page() and follow light and dark; standalone: a complete file that
// brings its own (light) colours and background.
enum class SvgUse { inside_page, standalone };

// A colour "#rrggbb" for a value from 0 (lightest) to 1 (darkest); others are clamped. Lightness falls steadily along
// the scale, so it reads the same with any colour vision and in grey. svg_heat_map uses it.
std::string sequential_color(double fraction);

// Whether text on that colour should be white rather than black (the higher contrast by WCAG's relative luminance).
bool needs_white_text(double fraction);

struct SvgSeries {
  std::string name;
  std::vector<double> x, y;  // same length, x increasing; a y that is not finite interrupts the line
  bool dashed = false;
  bool markers = false;  // a dot at each point
};

struct SvgBand {
  double from = 0.0, to = 0.0;  // in the units of the axis
  std::string label;
};

// Lines over common axes, with a legend when there are several, grid, and values on hover (where points are few).
struct SvgLineChart {
  std::string title;  // read aloud by screen readers; drawn only when standalone
  std::string x_label, y_label;
  std::vector<SvgSeries> series;  // up to eight are told apart by colour, further ones repeat
  std::vector<SvgBand> x_bands;   // shaded ranges of x
  std::vector<SvgBand> y_marks;   // marked ranges of y, e.g. a gap between values
  bool log_y = false;             // values <= 0 are not drawn
  bool integer_x = false;         // ticks at whole numbers only
  int width = 1000, height = 340;
};
std::string svg_line_chart(const SvgLineChart& chart, SvgUse use = SvgUse::inside_page);

// A square table in colours: rows downwards, columns to the right, both numbered from 0, with a colour bar. The values are also
// written into the cells up to 24 rows.
struct SvgHeatMap {
  std::string title;               // as for the line chart
  std::string axis_label;          // e.g. "layer"
  std::vector<double> values;      // row-major, size x size
  std::vector<std::string> hover;  // one text per cell, or empty: then the value
  double low = 0.0, high = 1.0;    // the ends of the colour scale
};
std::string svg_heat_map(const SvgHeatMap& map, SvgUse use = SvgUse::inside_page);

// A table as a picture, for pages that show pictures only: one line per row, the first column to the left, all others to the
// right. Rows have as many cells as there are headers; throws Error (internal) otherwise.
struct SvgTable {
  std::string title;  // as for the line chart
  std::vector<std::string> headers;
  std::vector<std::vector<std::string>> rows;
};
std::string svg_table(const SvgTable& table, SvgUse use = SvgUse::inside_page);

// A leader map as a strip of numbered cells: a leader and its followers share a colour, the leader's is full and its
// number bold; a layer on its own is plain. `hover`: one text per layer, or empty: then who uses whose matrix.
std::string svg_plan_strip(const std::vector<int64_t>& leaders, const std::vector<std::string>& hover = {},
                           SvgUse use = SvgUse::inside_page);

}  // namespace echo
