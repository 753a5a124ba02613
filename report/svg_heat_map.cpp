#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "report/numbers.h"
#include "report/svg.h"
#include "report/svg_canvas.h"

namespace echo {
namespace {

using Color = std::array<double, 3>;  // red, green, blue from 0 to 255

// Cream, green, teal, blue, deep blue. The relative luminance decreases evenly from 0.93 to 0.02.
constexpr std::array<Color, 6> kScale = {
    {{253, 248, 222}, {198, 226, 186}, {118, 190, 178}, {54, 142, 172}, {36, 89, 145}, {28, 34, 84}}};

Color color_at(double fraction) {
  if (!(fraction > 0.0)) return kScale.front();  // also for NaN
  if (fraction >= 1.0) return kScale.back();
  const double position = fraction * double(kScale.size() - 1);
  const size_t below = size_t(position);
  const double part = position - double(below);
  Color mixed;
  for (size_t i = 0; i < 3; ++i) mixed[i] = kScale[below][i] + part * (kScale[below + 1][i] - kScale[below][i]);
  return mixed;
}

// WCAG 2: the contrast with white equals the one with black at a luminance of 0.179.
double relative_luminance(const Color& color) {
  const std::array<double, 3> weights = {0.2126, 0.7152, 0.0722};
  double sum = 0.0;
  for (size_t i = 0; i < 3; ++i) {
    const double c = color[i] / 255.0;
    sum += weights[i] * (c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4));
  }
  return sum;
}

}  // namespace

std::string sequential_color(double fraction) {
  const Color color = color_at(fraction);
  return fmt::format("#{:02x}{:02x}{:02x}", int(std::lround(color[0])), int(std::lround(color[1])), int(std::lround(color[2])));
}

bool needs_white_text(double fraction) { return relative_luminance(color_at(fraction)) < 0.179; }

std::string svg_heat_map(const SvgHeatMap& map, SvgUse use) {
  const int64_t size = int64_t(std::llround(std::sqrt(double(map.values.size()))));
  ECHO_CHECK(size > 0 && size * size == int64_t(map.values.size()), "heat map: ", map.values.size(),
             " values are not a square");
  ECHO_CHECK(map.hover.empty() || map.hover.size() == map.values.size(), "heat map: ", map.hover.size(), " hover texts");
  const double cell = std::clamp(std::floor(760.0 / double(size)), 3.0, 44.0);
  const double side = cell * double(size), left = 56.0, top = 44.0;
  const double span = map.high > map.low ? map.high - map.low : 1.0;
  const bool written = size <= 24;
  const int64_t label_step = std::max<int64_t>(1, int64_t(std::ceil(20.0 / cell)));

  SvgCanvas canvas;
  for (int64_t row = 0; row < size; ++row) {
    for (int64_t column = 0; column < size; ++column) {
      const size_t at = size_t(row * size + column);
      const double value = map.values[at], fraction = (value - map.low) / span;
      const double x = left + cell * double(column), y = top + cell * double(row);
      const std::string hover =
          map.hover.empty() ? fmt::format("{} and {}: {}", row, column, short_number(value)) : map.hover[at];
      // Slightly wider than the cell, so that neighbours overlap and no background is visible between them.
      canvas.add(
          "<rect class=\"cell\" x=\"{:.0f}\" y=\"{:.0f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
          "fill=\"{}\"><title>{}</title></rect>\n",
          x, y, cell + 0.4, cell + 0.4, sequential_color(fraction), escape_html(hover));
      if (written && std::isfinite(value))
        canvas.add(
            "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\" font-size=\"{:.1f}\" fill=\"{}\" "
            "pointer-events=\"none\">{:.2f}</text>\n",
            x + cell / 2, y + cell * 0.62, std::clamp(cell * 0.34, 9.0, 13.0),
            needs_white_text(fraction) ? "#ffffff" : "#10131a", value);
    }
  }
  for (int64_t i = 0; i < size; i += label_step) {
    const double middle = cell * (double(i) + 0.5);
    canvas.text(left + middle, top - 7, "middle", "soft-ink", 12, std::to_string(i));
    canvas.text(left - 7, top + middle + 4, "end", "soft-ink", 12, std::to_string(i));
  }
  canvas.text(left + side / 2, top - 26, "middle", "ink", 13, map.axis_label);
  canvas.text(16, top + side / 2, "middle", "ink", 13, map.axis_label,
              fmt::format("transform=\"rotate(-90 16 {:.1f})\"", top + side / 2));

  constexpr int kSteps = 48;  // of the colour bar
  const double bar = left + side + 26, bar_height = std::max(side, 120.0), step = bar_height / kSteps;
  for (int i = 0; i < kSteps; ++i)
    canvas.add("<rect x=\"{:.1f}\" y=\"{:.2f}\" width=\"16\" height=\"{:.2f}\" fill=\"{}\"/>\n", bar, top + step * i,
               step + 0.4, sequential_color(1.0 - (i + 0.5) / kSteps));
  for (int i = 0; i <= 4; ++i)
    canvas.text(bar + 22, top + bar_height * i / 4 + 4, "start", "soft-ink", 12,
                fmt::format("{:.2f}", map.high - span * i / 4));
  return canvas.finish(bar + 66, top + bar_height + 16, map.title, use);
}

}  // namespace echo
