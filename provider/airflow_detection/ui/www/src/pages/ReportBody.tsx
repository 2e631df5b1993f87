import { Box, chakra, Flex, Stack } from "@chakra-ui/react";
import type { ReactNode } from "react";

import type { Cell, Kind, Report, ReportSeries, ReportTable, Section } from "../api/report";
import { LineChart } from "../charts/LineChart";
import { Spark } from "../charts/Spark";
import { Strip } from "../charts/Strip";
import { Card } from "../components/Card";
import { DataTable } from "../components/DataTable";
import { Facts } from "../components/Facts";
import { Instant, Period } from "../components/Instant";
import { StatusMark, Verdict } from "../components/Mark";
import { Empty } from "../components/States";
import { Text } from "../components/Text";
import { toneOfStatus, toneOfVerdict } from "../components/theme";
import { NONE, number, type NumberKind, useNumbers } from "../format/numbers";
import { useLanguage, useTexts } from "../locales";

const NUMERIC: Partial<Record<Kind, NumberKind>> = {
  count: "count", share: "share", number: "number", score: "score", ms: "ms", seconds: "seconds", ratio: "ratio",
};
const numbersOf = (cell: Cell): (number | null)[] => (Array.isArray(cell) ? cell.map((item) => (typeof item === "number" ? item : null)) : []);
const wordsOf = (cell: Cell): string[] => (Array.isArray(cell) ? cell.map((item) => String(item ?? "")) : []);

/** A value of a stored report, shown by its kind. */
const Shown = ({ kind, value }: { kind: Kind; value: Cell }): ReactNode => {
  const lang = useLanguage();
  if (value === null || value === "") return NONE;
  if (kind === "spark") return <Spark values={numbersOf(value)} label={numbersOf(value).map((item) => number(lang, item)).join(", ").slice(0, 400)} />;
  if (kind === "strip") {
    const words = wordsOf(value);
    return <Strip width={words.length > 60 ? 3 : words.length > 24 ? 5 : 9} label={[...new Set(words)].join(", ")} cells={words.map((word) => ({ tone: toneOfVerdict(word), title: word }))} />;
  }
  const numeric = NUMERIC[kind];
  if (numeric && typeof value === "number") return number(lang, value, numeric);
  if (kind === "instant") return <Instant at={String(value)} />;
  if (kind === "verdict") return <Verdict kind={String(value)} />;
  if (kind === "status") return <StatusMark status={String(value)} />;
  return <Text value={Array.isArray(value) ? value.join(", ") : typeof value === "boolean" ? String(value) : value} max={240} mono={kind === "code"} />;
};

const TableView = ({ table, label }: { table: ReportTable; label: string }) => {
  const t = useTexts();
  const name = table.title || label;
  return (
    <Box>
      {table.title && <Box fontWeight="semibold" fontSize="sm" mb={1}>{table.title}</Box>}
      {table.rows.length === 0 ? <Box fontSize="sm" color="fg.muted">{table.empty}</Box> : (
        <DataTable label={name} columns={table.columns.map((column) => ({ label: column.label, help: column.help, isNumber: column.kind in NUMERIC }))}
          rows={table.rows.map((row, n) => ({
            key: n, tone: table.marks[n] ? toneOfStatus(table.marks[n]) : null,
            cells: row.map((cell, c) => <Shown key={c} kind={table.columns[c]?.kind ?? "text"} value={cell} />),
          }))} />
      )}
      {table.left_out > 0 && <Box fontSize="sm" color="fg.muted">{t("reports.left_out", { count: table.left_out })}</Box>}
      {table.note && <Box fontSize="xs" color="fg.muted" mt={1}><Text value={table.note} max={400} /></Box>}
    </Box>
  );
};

const SeriesView = ({ series }: { series: ReportSeries }) => {
  const n = useNumbers();
  const kind = NUMERIC[series.kind] ?? "number";
  const scaled = (value: number | null) => (value === null ? null : series.is_logarithmic ? Math.log10(Math.max(value, 1e-9)) : value);
  const at = series.counts ? series.at.map((text, place) => Number(text) || place) : series.at;
  return (
    <Box>
      <LineChart title={series.title} xLabel={series.counts || undefined} at={at}
        format={(value) => (value === null ? NONE : n(series.is_logarithmic ? 10 ** value : value, kind))}
        lines={series.lines.map((line) => ({ label: line.label, values: line.values.map(scaled), hue: line.hue }))} />
      {series.note && <Box fontSize="xs" color="fg.muted">{series.note}</Box>}
    </Box>
  );
};

const SectionView = ({ section }: { section: Section }) => (
  <Card id={`section-${section.name}`} title={section.title} aside={<StatusMark status={section.status} />}>
    <Stack gap={4}>
      {section.why && <chakra.pre whiteSpace="pre-wrap" overflowWrap="anywhere" fontSize="sm" m={0}><Text value={section.why} max={1000} mono /></chakra.pre>}
      {section.summary && <Box color="fg.muted"><Text value={section.summary} max={600} /></Box>}
      {section.facts.length > 0 && <Facts facts={section.facts.map((fact) => ({ label: fact.label, value: <Shown kind={fact.kind} value={fact.value} />, note: fact.note, tone: fact.status ? toneOfStatus(fact.status) : undefined }))} />}
      {section.tables.map((table, n) => <TableView key={n} table={table} label={section.title} />)}
      {section.series.map((series, n) => <SeriesView key={n} series={series} />)}
    </Stack>
  </Card>
);

export type Change = { kind: "section" | "standing"; name: string; role: string; before: string | null; now: string };

/** What differs between a report and the one before: states of sections, and the worst verdict of versions. */
export const changesSince = (now: Report, before: Report): Change[] => {
  const sections = new Map(before.sections.map((section) => [section.name, section.status]));
  const standings = new Map(before.standings.map((s) => [`${s.model_id}@${s.version}`, s.worst]));
  return [
    ...now.sections.filter((section) => sections.get(section.name) !== section.status)
      .map((section) => ({ kind: "section" as const, name: section.title, role: "", before: sections.get(section.name) ?? null, now: section.status })),
    ...now.standings.filter((s) => standings.get(`${s.model_id}@${s.version}`) !== s.worst)
      .map((s) => ({ kind: "standing" as const, name: `${s.model_id}@${s.version}`, role: s.role, before: standings.get(`${s.model_id}@${s.version}`) ?? null, now: s.worst })),
  ];
};

const Changes = ({ report, before }: { report: Report; before: Report | null }) => {
  const t = useTexts();
  if (!before) return <Box fontSize="sm" color="fg.muted">{t("reports.first")}</Box>;
  const changes = changesSince(report, before);
  const Shape = ({ change, word }: { change: Change; word: string | null }) =>
    word === null ? <>{t("reports.unknown")}</> : change.kind === "section" ? <StatusMark status={word} /> : <Verdict kind={word} />;
  return (
    <Card title={t(changes.length > 0 ? "reports.changes" : "reports.no_changes", { period: `${before.start.slice(0, 16).replace("T", " ")} UTC` })}>
      {changes.length > 0 && (
        <Stack as="ul" gap={1} m={0} p={0} listStyleType="none">
          {changes.map((change, n) => (
            <Flex as="li" key={n} gap={2} wrap="wrap" align="center">
              <chakra.span width="20rem" maxW="100%" overflowWrap="anywhere"><Text value={change.role ? `${change.name} (${change.role})` : change.name} max={120} /></chakra.span>
              <Shape change={change} word={change.before} /><span aria-hidden="true">→</span><Shape change={change} word={change.now} />
            </Flex>
          ))}
        </Stack>
      )}
    </Card>
  );
};

/** A stored report, from its JSON, in the theme of Airflow's own pages. */
export const ReportBody = ({ report, before, hasChanges }: { report: Report; before: Report | null; hasChanges: boolean }) => {
  const t = useTexts();
  return (
    <Stack gap={4}>
      <Box>
        <Box fontSize="sm" color="fg.muted">{report.kind} · <Period start={report.start} end={report.end} /></Box>
        <chakra.h2 fontSize="xl" fontWeight="semibold" overflowWrap="anywhere"><Text value={report.headline} max={400} /></chakra.h2>
      </Box>
      <chakra.nav aria-label={t("reports.contents")}>
        <Flex gap={3} wrap="wrap" fontSize="sm">
          {report.sections.map((section) => (
            <Flex key={section.name} gap={1} align="center">
              <chakra.button type="button" color="fg.info" textDecoration="underline" cursor="pointer"
                onClick={() => { document.getElementById(`section-${section.name}`)?.scrollIntoView({ block: "start" }); }}>
                {section.title}
              </chakra.button>
              {section.status !== "ok" && <StatusMark status={section.status} />}
            </Flex>
          ))}
        </Flex>
      </chakra.nav>
      {report.missed.length > 0 && (
        <Empty title={t("reports.missed")}>
          {report.missed.map((missed) => <Box key={missed.start}><Period start={missed.start} end={missed.end} /> ({missed.hours} h)</Box>)}
        </Empty>
      )}
      {hasChanges && <Changes report={report} before={before} />}
      {report.sections.map((section) => <SectionView key={section.name} section={section} />)}
    </Stack>
  );
};
