#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "report/numbers.h"
#include "report/svg.h"
#include "report/svg_canvas.h"

namespace echo {
namespace {

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return !(low <= high); }
};

// Maps values to positions in the picture, linearly or logarithmically.
struct Scale {
  double low, high, from, to;
  bool logarithmic;
  double operator()(double value) const {
    const double part = logarithmic ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
    return from + (to - from) * part;
  }
};

// Round numbers (1, 2 or 5 times a power of ten) about `count` steps apart, inside [low, high].
std::vector<double> linear_ticks(double low, double high, int count, bool integers) {
  const double wanted = (high - low) / count, power = std::pow(10.0, std::floor(std::log10(wanted)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0})
    if (factor * power >= wanted * 0.999) step = factor * power;
  if (integers) step = std::max(1.0, std::round(step));
  std::vector<double> ticks;
  // Computed from an index, not by addition: if the step is smaller than the rounding of `low`, a sum would not change.
  const double first = std::ceil(low / step - 1e-9);
  for (int i = 0; i <= 2 * count && (first + i) * step <= high + step * 1e-9; ++i)
    ticks.push_back((first + i) * step == 0.0 ? 0.0 : (first + i) * step);  // no "-0"
  return ticks;
}

// 1, 2 and 5 times powers of ten inside [low, high]. Only the powers if these are many, linear ticks if they are few.
std::vector<double> logarithmic_ticks(double low, double high) {
  std::vector<double> all, powers;
  for (int exponent = int(std::floor(std::log10(low))); exponent <= int(std::ceil(std::log10(high))); ++exponent) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double tick = factor * std::pow(10.0, exponent);
      if (tick < low * (1 - 1e-9) || tick > high * (1 + 1e-9)) continue;
      all.push_back(tick);
      if (factor == 1.0) powers.push_back(tick);
    }
  }
  if (all.size() < 3) return linear_ticks(low, high, 5, false);
  return all.size() > 9 ? powers : all;
}

// Makes a range that is not empty, with some space around the values.
void widen(Range& range, bool logarithmic, double share) {
  if (range.empty()) range = logarithmic ? Range{0.1, 1.0} : Range{0.0, 1.0};
  if (logarithmic) {
    const double factor = std::max(std::pow(range.high / range.low, share), 1.02);
    range = {range.low / factor, range.high * factor};
    return;
  }
  double air = (range.high - range.low) * share;
  const double size = std::max(std::abs(range.low), std::abs(range.high));
  if (range.high - range.low <= size * 1e-12) air = size > 0.0 ? size * 0.1 : 1.0;  // one value
  range = {range.low - air, range.high + air};
}

struct Point {
  double x, y;
};

// At most about `limit` points. Of each group of neighbours it keeps the lowest and the highest, so that no peak is lost.
// Breaks are kept.
std::vector<Point> thinned(const std::vector<Point>& points, size_t limit) {
  if (points.size() <= limit) return points;
  const size_t group = (2 * points.size() + limit - 1) / limit;
  std::vector<Point> kept;
  for (size_t begin = 0; begin < points.size(); begin += group) {
    const size_t end = std::min(begin + group, points.size());
    size_t low = begin, high = begin, hole = end;
    for (size_t i = begin; i < end; ++i) {
      if (!std::isfinite(points[i].y)) {
        hole = i;
        continue;
      }
      if (!std::isfinite(points[low].y) || points[i].y < points[low].y) low = i;
      if (!std::isfinite(points[high].y) || points[i].y > points[high].y) high = i;
    }
    kept.push_back(points[std::min(low, high)]);
    if (low != high) kept.push_back(points[std::max(low, high)]);
    if (hole != end) kept.push_back({points[hole].x, std::numeric_limits<double>::quiet_NaN()});
  }
  return kept;
}

// A series as drawn: values that cannot be drawn interrupt the line.
std::vector<Point> drawable(const SvgSeries& series, bool log_y) {
  ECHO_CHECK(series.x.size() == series.y.size(), "line chart: ", series.name, " has ", series.x.size(), " x and ",
             series.y.size(), " y");
  std::vector<Point> points;
  for (size_t i = 0; i < series.x.size(); ++i) {
    // Bounds far from the limits of f64, so that no difference or ratio below overflows.
    const bool drawn = std::abs(series.y[i]) < 1e100 && (!log_y || series.y[i] > 1e-100);
    if (!(std::abs(series.x[i]) < 1e100)) continue;
    points.push_back({series.x[i], drawn ? series.y[i] : std::numeric_limits<double>::quiet_NaN()});
  }
  return points;
}

// A chart that is being drawn. Each function adds a layer, and later layers cover earlier ones.
class LineChart {
 public:
  explicit LineChart(const SvgLineChart& chart) : chart_(chart), right_(chart.width - 18.0) {
    for (const SvgSeries& series : chart.series) {
      lines_.push_back(drawable(series, chart.log_y));
      for (const Point& point : lines_.back()) {
        xs_.include(point.x);
        if (std::isfinite(point.y)) ys_.include(point.y);
      }
    }
    widen(xs_, false, chart.integer_x && xs_.high - xs_.low < 300 ? 0.5 / std::max(1.0, xs_.high - xs_.low) : 0.0);
    widen(ys_, chart.log_y, 0.06);
  }

  std::string draw(SvgUse use) {
    if (chart_.series.size() > 1) legend();
    bottom_ = std::max(top_ + 60.0, chart_.height - 50.0);
    x_ = {xs_.low, xs_.high, kLeft, right_, false};
    y_ = {ys_.low, ys_.high, bottom_, top_, chart_.log_y};
    bands();
    ticks();
    band_labels();
    axes();
    marks();
    for (size_t i = 0; i < lines_.size(); ++i) series(i);
    return canvas_.finish(chart_.width, bottom_ + 50, chart_.title, use);
  }

 private:
  double clamp_x(double value) const { return std::clamp(x_(value), kLeft, right_); }
  double clamp_y(double value) const { return chart_.log_y && value <= 0.0 ? bottom_ : std::clamp(y_(value), top_, bottom_); }

  // The legend has as many rows as needed, above the axes.
  void legend() {
    double at = kLeft;
    for (size_t i = 0; i < chart_.series.size(); ++i) {
      const double needed = 44 + 7.6 * double(chart_.series[i].name.size());
      if (at > kLeft && at + needed > right_) at = kLeft, top_ += 22;
      canvas_.add("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" class=\"series l{}\"{}/>\n", at, at + 24, top_,
                  top_, i % 8, chart_.series[i].dashed ? " stroke-dasharray=\"6 4\"" : "");
      canvas_.text(at + 30, top_ + 4, "start", "ink", 13, chart_.series[i].name);
      at += needed;
    }
    top_ += 22;
  }

  void bands() {
    for (const SvgBand& band : chart_.x_bands) {
      const double from = clamp_x(std::min(band.from, band.to)), to = clamp_x(std::max(band.from, band.to));
      canvas_.add(
          "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" class=\"band\"><title>{}</title></rect>\n", from,
          top_, to - from, bottom_ - top_, escape_html(band.label));
    }
  }

  void ticks() {
    for (const double tick : chart_.log_y ? logarithmic_ticks(ys_.low, ys_.high) : linear_ticks(ys_.low, ys_.high, 6, false)) {
      canvas_.add("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" class=\"grid\"/>\n", kLeft, right_, y_(tick),
                  y_(tick));
      canvas_.text(kLeft - 8, y_(tick) + 4, "end", "soft-ink", 12, short_number(tick));
    }
    const int count = xs_.high - xs_.low <= 24 && chart_.integer_x ? 24 : 10;
    for (const double tick : linear_ticks(xs_.low, xs_.high, count, chart_.integer_x)) {
      canvas_.add("<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\" class=\"axis\"/>\n", x_(tick), bottom_,
                  bottom_ + 5);
      canvas_.text(x_(tick), bottom_ + 19, "middle", "soft-ink", 12, short_number(tick));
    }
  }

  // A label wider than its band may extend beyond the band, but not beyond the axes.
  void band_labels() {
    for (const SvgBand& band : chart_.x_bands) {
      const double half = std::min(3.8 * double(band.label.size()), (right_ - kLeft) / 2);
      const double middle = (clamp_x(band.from) + clamp_x(band.to)) / 2;
      canvas_.text(std::clamp(middle, kLeft + half, right_ - half), top_ + 15, "middle", "soft-ink", 12, band.label);
    }
  }

  void axes() {
    canvas_.add("<path d=\"M{0:.1f} {1:.1f}V{2:.1f}H{3:.1f}\" class=\"axis\"/>\n", kLeft, top_, bottom_, right_);
    canvas_.text((kLeft + right_) / 2, bottom_ + 42, "middle", "ink", 13, chart_.x_label);
    canvas_.text(14, (top_ + bottom_) / 2, "middle", "ink", 13, chart_.y_label,
                 fmt::format("transform=\"rotate(-90 14 {:.1f})\"", (top_ + bottom_) / 2));
  }

  void marks() {
    for (const SvgBand& mark : chart_.y_marks) {
      const double upper = clamp_y(std::max(mark.from, mark.to)), lower = clamp_y(std::min(mark.from, mark.to));
      canvas_.add("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" class=\"mark-band\"/>\n", kLeft, upper,
                  right_ - kLeft, lower - upper);
      canvas_.add("<path d=\"M{0:.1f} {2:.1f}H{1:.1f}M{0:.1f} {3:.1f}H{1:.1f}\" class=\"mark\" stroke-dasharray=\"3 3\"/>\n",
                  kLeft, right_, upper, lower);
      // Inside the band if it is tall enough, otherwise above it.
      const double middle = lower - upper >= 18 ? (upper + lower) / 2 + 4 : upper - 5;
      canvas_.text((kLeft + right_) / 2, middle, "middle", "mark-ink", 12, mark.label, "font-weight=\"600\"");
    }
  }

  void series(size_t index) {
    const SvgSeries& series = chart_.series[index];
    const std::vector<Point> points = thinned(lines_[index], 2000);
    std::string path;
    bool pen_down = false;
    for (const Point& point : points) {
      if (std::isfinite(point.y))
        fmt::format_to(std::back_inserter(path), "{}{:.1f} {:.1f}", pen_down ? 'L' : 'M', x_(point.x), y_(point.y));
      pen_down = std::isfinite(point.y);
    }
    if (!path.empty())
      canvas_.add("<path d=\"{}\" class=\"series l{}{}\"{}/>\n", path, index % 8, points.size() > 400 ? " thin" : "",
                  series.dashed ? " stroke-dasharray=\"6 4\"" : "");
    if (points.size() <= 400) dots(index, points);  // closer dots would be too small to point at
  }

  // Each dot shows its value on hover.
  void dots(size_t index, const std::vector<Point>& points) {
    const SvgSeries& series = chart_.series[index];
    const bool visible = series.markers || points.size() == 1;
    for (const Point& point : points)
      if (std::isfinite(point.y))
        canvas_.add("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" class=\"f{}\"{}><title>{}{}{}: {}</title></circle>\n",
                    x_(point.x), y_(point.y), visible ? 3.5 : 6.0, index % 8, visible ? "" : " fill-opacity=\"0\"",
                    escape_html(series.name), series.name.empty() ? "" : ", ", short_number(point.x), short_number(point.y));
  }

  static constexpr double kLeft = 78;
  const SvgLineChart& chart_;
  std::vector<std::vector<Point>> lines_;  // by series
  Range xs_, ys_;
  double right_, top_ = 12, bottom_ = 0;  // of the axes; the legend moves the top down
  Scale x_{}, y_{};
  SvgCanvas canvas_;
};

}  // namespace

std::string svg_line_chart(const SvgLineChart& chart, SvgUse use) { return LineChart(chart).draw(use); }

}  // namespace echo
