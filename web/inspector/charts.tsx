/* charts.tsx - rates, bytes, latency and lag over the last minutes. */
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import { gauge, type Figures } from "./figures.ts";

interface Line {
  label: string;
  /** A gauge that only grows: its growth a second is drawn. */
  rateOf?: string;
  value?: (figures: Figures) => number;
}
interface Chart {
  title: string;
  lines: Line[];
}

const charts: Chart[] = [
  {
    title: "Messages a second",
    lines: [
      { label: "from clients", rateOf: "messages_total" },
      { label: "deliveries", rateOf: "deliveries_total" },
      { label: "rows written", rateOf: "rows_written_total" },
    ],
  },
  {
    title: "Bytes a second",
    lines: [
      { label: "in", rateOf: "bytes_in_total" },
      { label: "out", rateOf: "bytes_out_total" },
    ],
  },
  {
    title: "Latency, milliseconds",
    lines: [
      { label: "all actors answered", value: (figures) => figures.answeredMs },
      {
        label: "longest turn since the start",
        value: ({ actors }) => Math.max(0, ...actors.map((a) => a.gauges["turn_us_max"] ?? 0)) / 1000,
      },
    ],
  },
  {
    title: "Lag",
    lines: [
      { label: "rows not matched yet", value: (figures) => gauge(figures, "lag_rows") },
      {
        label: "streams that catch up",
        value: (figures) => gauge(figures, "streams") - gauge(figures, "streams_live"),
      },
      {
        label: "messages in mailboxes",
        value: ({ actors }) => actors.reduce((sum, actor) => sum + actor.waiting, 0),
      },
    ],
  },
];

const SPAN_S = 60; // drawn at least
const COLOURS = ["--line-a", "--line-b", "--line-c"];

function dataOf(chart: Chart, samples: readonly Figures[]): uPlot.AlignedData {
  const times = samples.map((one) => one.atMs / 1000);
  const lines = chart.lines.map(({ rateOf, value }) =>
    samples.map((one, i) => {
      if (value !== undefined) return value(one);
      const before = samples[i - 1];
      if (before === undefined || rateOf === undefined) return null;
      const seconds = (one.atMs - before.atMs) / 1000;
      return Math.max(0, gauge(one, rateOf) - gauge(before, rateOf)) / seconds;
    }),
  );
  return [times, ...lines] as uPlot.AlignedData;
}

function optionsOf(chart: Chart, element: HTMLElement): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string) => {
    const probe = document.createElement("i"); // light-dark() is resolved by the browser alone
    probe.style.color = `var(${name})`;
    element.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const axis: uPlot.Axis = {
    stroke: colour("--soft"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1 },
    font: `12px ${style.fontFamily}`,
  };
  return {
    width: element.clientWidth,
    height: 170,
    cursor: { y: false },
    legend: { show: false },
    padding: [10, 30, 0, 0],
    scales: {
      x: {
        range: ({ data: [times] }) => {
          const last = times.at(-1) ?? Date.now() / 1000;
          return [Math.min(times[0] ?? last, last - SPAN_S), last];
        },
      },
      y: { range: (_plot, _min, max) => [0, Math.max(1, (max ?? 0) * 1.1)] },
    },
    axes: [
      { ...axis, values: "{HH}:{mm}:{ss}", space: 80, size: 30 },
      { ...axis, size: 56, values: (_plot, ticks) => ticks.map(short) },
    ],
    series: [
      {},
      ...chart.lines.map((line, i) => ({
        label: line.label,
        stroke: colour(COLOURS[i] as string),
        width: 2,
        points: { show: (plot: uPlot) => plot.data[0].length < 4 }, // one alone draws no line
      })),
    ],
  };
}

function short(value: number): string {
  return Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 }).format(value);
}

function Plot({ chart, samples }: { chart: Chart; samples: readonly Figures[] }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const data = dataOf(chart, samples);
  const newest = useRef(data);
  newest.current = data;
  useEffect(() => {
    const element = place.current as HTMLDivElement;
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(optionsOf(chart, element), newest.current, element);
    };
    draw();
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", draw);
    const size = new ResizeObserver(() =>
      plot.current?.setSize({ width: element.clientWidth, height: 170 }),
    );
    size.observe(element);
    return () => {
      size.disconnect();
      scheme.removeEventListener("change", draw);
      plot.current?.destroy();
    };
  }, [chart]);
  useEffect(() => plot.current?.setData(data), [samples]);
  const values = chart.lines.map((_line, i) => short(data[i + 1]?.at(-1) ?? 0));
  const said = chart.lines.map((line, i) => `${line.label} ${values[i]}`);
  return (
    <figure class="card chart" aria-label={`${chart.title}: ${said.join(", ")}`}>
      <figcaption>{chart.title}</figcaption>
      <div ref={place} aria-hidden="true" />
      <ul class="legend" aria-hidden="true">
        {chart.lines.map((line, i) => (
          <li key={line.label} class={`line-${i}`}>
            {line.label} <b>{values[i]}</b>
          </li>
        ))}
      </ul>
    </figure>
  );
}

export function Charts({ samples }: { samples: readonly Figures[] }) {
  return (
    <div class="charts">
      {charts.map((chart) => (
        <Plot key={chart.title} chart={chart} samples={samples} />
      ))}
    </div>
  );
}
