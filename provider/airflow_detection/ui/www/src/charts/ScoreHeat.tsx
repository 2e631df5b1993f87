import { token } from "../components/theme";
import { instant, useZone } from "../format/instants";
import { useNumbers } from "../format/numbers";

const ROW = 14;

/**
 * Shares of the ranges of the score over time; a column without a run stays empty. The ranges are in order, the
 * lowest scores first.
 */
export const ScoreHeat = ({ label, at, ranges, buckets }: {
  label: string; at: string[]; ranges: string[]; buckets: (number[] | null)[];
}) => {
  const n = useNumbers();
  const zone = useZone();
  const rows = ranges.length;
  return (
    <svg role="img" aria-label={label} viewBox={`0 0 ${at.length} ${ROW * rows}`} preserveAspectRatio="none" width="100%" height={ROW * rows} style={{ display: "block", background: token("bg.subtle") }}>
      {buckets.map((counts, column) => {
        const total = counts?.reduce((sum, count) => sum + count, 0) ?? 0;
        if (!counts || total === 0) return null;
        return (
          <g key={column}>
            <title>{`${instant(at[column] ?? "", zone)}: ${counts.map((count, row) => `${ranges[row]}: ${n(count)}`).join(", ")}`}</title>
            {counts.map((count, row) =>
              count > 0 ? (
                <rect key={row} x={column} y={(rows - 1 - row) * ROW} width="1" height={ROW} fill={token("blue.fg")} fillOpacity={0.2 + (0.8 * Math.log1p(count)) / Math.log1p(total)} />
              ) : null,
            )}
          </g>
        );
      })}
    </svg>
  );
};
