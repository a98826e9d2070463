/* Line charts of the last minutes: uPlot in the page's own colours. */
var corralCharts = (() => {
  "use strict";
  const KEPT = 300;
  const HEIGHT = 150;
  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const short = (value) => (value >= 1000 ? `${+(value / 1000).toFixed(1)}k` : `${+value.toFixed(2)}`);
  const clock = (unix) => new Date(unix * 1000).toLocaleTimeString([], { hourCycle: "h23" });
  const least = (most) => (_, low, high) => [0, Math.max(most, (high || 0) * 1.1)];

  const make = (id, series, percent) => {
    const box = document.getElementById(id);
    // What has never happened has no line: on the ground it would hide the others.
    const values = (one, shown) => {
      const found = shown.map((point) => one.of(point));
      return one.rare && !found.some(Boolean) ? found.map(() => null) : found;
    };
    let plot = null;
    let data = [[], ...series.map(() => [])];
    const axis = (scale, side) => ({
      scale,
      side,
      stroke: colour("soft"),
      grid: { stroke: colour("line"), width: 1, show: side === 3 },
      ticks: { show: false },
      size: 44,
      values: (_, splits) => splits.map(short),
    });
    const draw = () => {
      plot?.destroy();
      const scales = { x: { time: true }, y: { range: percent ? [0, 100] : least(1) } };
      const axes = [
        {
          stroke: colour("soft"),
          grid: { show: false },
          ticks: { show: false },
          size: 26,
          space: 90,
          values: (_, splits) => splits.map(clock),
        },
        axis("y", 3),
      ];
      if (percent) {
        scales.y2 = { range: least(4) };
        axes.push(axis("y2", 1));
      }
      plot = new uPlot(
        {
          width: Math.max(200, box.clientWidth),
          height: HEIGHT,
          legend: { show: false },
          cursor: { show: false },
          padding: [8, percent ? 0 : 8, 0, 0],
          scales,
          axes,
          series: [
            {},
            ...series.map((one) => ({
              stroke: colour(one.colour),
              width: 1.5,
              scale: one.scale || "y",
              spanGaps: false,
              points: { show: false },
            })),
          ],
        },
        data,
        box,
      );
    };
    draw();
    new ResizeObserver(() => {
      if (plot && box.clientWidth && plot.width !== box.clientWidth)
        plot.setSize({ width: box.clientWidth, height: HEIGHT });
    }).observe(box);
    return {
      redraw: draw,
      show: (points) => {
        const shown = points.slice(-KEPT);
        data = [
          shown.map((point) => point[0]),
          ...series.map((one) => values(one, shown)),
        ];
        plot.setData(data);
        const last = shown[shown.length - 1];
        if (last)
          box.setAttribute(
            "aria-label",
            series.map((one) => `${one.name} ${one.of(last) === null ? "none" : short(one.of(last))}`).join(", "),
          );
      },
    };
  };

  // The order of a point's numbers is _point's, in console_feed.py.
  const start = () => {
    const charts = [
      make("chart-rate", [
        { name: "answered a second", colour: "one", of: (p) => p[1] },
        { name: "refused", colour: "warning", rare: true, of: (p) => p[2] },
        { name: "failed", colour: "error", rare: true, of: (p) => p[3] },
      ]),
      make("chart-latency", [
        { name: "p50 in milliseconds", colour: "three", of: (p) => p[4] },
        { name: "p99", colour: "two", of: (p) => p[5] },
      ]),
      make(
        "chart-load",
        [
          { name: "workers' use in percent", colour: "four", of: (p) => p[7] * 100 },
          { name: "items in the queue", colour: "six", scale: "y2", of: (p) => p[6] },
        ],
        true,
      ),
    ];
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
      charts.forEach((chart) => chart.redraw()),
    );
    return { show: (points) => charts.forEach((chart) => chart.show(points)) };
  };
  return { start };
})();
