#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace echo {

// Pictures as SVG text. All texts are escaped. Numbers may have any value; those that are not finite are not drawn.
// inside_page: colours come from the style sheet of html_page() and follow light and dark. standalone: a complete file with its
// own (light) colours and background.
enum class SvgUse { inside_page, standalone };

// The colour "#rrggbb" for a value from 0 (lightest) to 1 (darkest). Other values are clamped. Lightness decreases steadily
// along the scale, so it is readable with any colour vision and in grey. svg_heat_map uses it.
std::string sequential_color(double fraction);

// True when text on that colour should be white instead of black (the higher contrast by WCAG's relative luminance).
bool needs_white_text(double fraction);

struct SvgSeries {
  std::string name;
  std::vector<double> x, y;  // same length, x ascending; a y that is not finite interrupts the line
  bool dashed = false;
  bool markers = false;  // a dot at each point
};

struct SvgBand {
  double from = 0.0, to = 0.0;  // in the units of the axis
  std::string label;
};

// Lines over common axes, with a grid, a legend if there are several lines, and values on hover (for few points).
struct SvgLineChart {
  std::string title;  // for screen readers; drawn only when standalone
  std::string x_label, y_label;
  std::vector<SvgSeries> series;  // up to eight have different colours, further ones repeat them
  std::vector<SvgBand> x_bands;   // shaded ranges of x
  std::vector<SvgBand> y_marks;   // marked ranges of y, e.g. a gap between values
  bool log_y = false;             // values <= 0 are not drawn
  bool integer_x = false;         // ticks at whole numbers only
  int width = 1000, height = 340;
};
std::string svg_line_chart(const SvgLineChart& chart, SvgUse use = SvgUse::inside_page);

// A square table in colours, with a colour bar: rows downwards, columns to the right, both numbered from 0. Up to 24 rows, the
// cells also show their values.
struct SvgHeatMap {
  std::string title;               // as for the line chart
  std::string axis_label;          // e.g. "layer"
  std::vector<double> values;      // row-major, size x size
  std::vector<std::string> hover;  // one text per cell; if empty, the value is shown
  double low = 0.0, high = 1.0;    // the ends of the colour scale
};
std::string svg_heat_map(const SvgHeatMap& map, SvgUse use = SvgUse::inside_page);

// A table as a picture, for pages that show only pictures: one line per row, the first column aligned left, all others right.
// Rows must have as many cells as there are headers. Throws Error (internal) otherwise.
struct SvgTable {
  std::string title;  // as for the line chart
  std::vector<std::string> headers;
  std::vector<std::vector<std::string>> rows;
};
std::string svg_table(const SvgTable& table, SvgUse use = SvgUse::inside_page);

// A leader map as a strip of numbered cells. A leader and its followers share a colour; the leader's is stronger and its number
// is bold. A layer without sharing is plain. `hover`: one text per layer; if empty, it says which layer's matrix each layer
// uses.
std::string svg_plan_strip(const std::vector<int64_t>& leaders, const std::vector<std::string>& hover = {},
                           SvgUse use = SvgUse::inside_page);

}  // namespace echo
