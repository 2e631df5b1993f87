import { Box, Checkbox, Flex, Stack } from "@chakra-ui/react";
import { useState } from "react";

import { route } from "../api/client";
import type { Comparison, Interval, LabelledRecord, VersionRecord } from "../api/comparison";
import type { DifferingEntity, Model, Overview } from "../api/types";
import { useApi, usePages } from "../api/useApi";
import { LineChart } from "../charts/LineChart";
import { Card } from "../components/Card";
import { DataTable } from "../components/DataTable";
import { Evidence } from "../components/Evidence";
import { Facts } from "../components/Facts";
import { Choose, TextField } from "../components/Fields";
import { Instant } from "../components/Instant";
import { Mark, RoleMark } from "../components/Mark";
import { PageLink } from "../components/PageLink";
import { type Range, RangeFields, useRange } from "../components/Range";
import { Empty, Loading, Ready } from "../components/States";
import { Id, Text } from "../components/Text";
import { useAddress } from "../components/useAddress";
import { type NumberKind, useNumbers } from "../format/numbers";
import { links, splitLabel } from "../links";
import { useTexts } from "../locales";
import type { Key } from "../locales";
import { PromotionForm } from "./PromotionForm";

const Agreement = ({ comparison }: { comparison: Comparison }) => {
  const t = useTexts();
  const n = useNumbers();
  const { agreement } = comparison;
  const only = comparison.only_first_cycles + comparison.only_second_cycles;
  return (
    <Facts facts={[
      { label: t("compare.coverage"), value: n(agreement.coverage, "share"), note: t("compare.coverage_note", { scored: n(agreement.scored), entities: n(agreement.entities) }) },
      { label: t("compare.cycles"), value: n(comparison.cycles), note: t("compare.cycles_note", { replayed: n(comparison.replayed), only: n(only) }) },
      { label: t("compare.newly"), value: n(agreement.newly_flagged + agreement.flagged_unseen), note: t("compare.newly_note", { above: n(comparison.above, "number") }) },
      { label: t("compare.lost"), value: n(agreement.lost + agreement.lost_unseen), note: t("compare.lost_note") },
      { label: t("compare.kappa"), value: n(agreement.kappa, "number") },
      { label: t("compare.jaccard"), value: n(agreement.jaccard, "number") },
      { label: t("compare.top"), value: n(agreement.top_overlap, "share") },
      { label: t("compare.p99"), value: n(agreement.p99_difference, "number") },
    ]} />
  );
};

const RECORD: [Key, (record: VersionRecord) => number | null, NumberKind][] = [
  ["compare.record.cycles", (r) => r.cycles, "count"],
  ["compare.record.replays", (r) => r.replays, "count"],
  ["compare.record.succeeded", (r) => r.succeeded, "count"],
  ["compare.record.failed", (r) => r.failed, "count"],
  ["compare.record.skipped", (r) => r.skipped, "count"],
  ["compare.record.alerts", (r) => r.alerts, "count"],
  ["compare.record.median_ms", (r) => r.median_ms, "ms"],
  ["compare.record.p95_ms", (r) => r.p95_ms, "ms"],
  ["compare.record.canaries", (r) => r.canaries, "count"],
  ["compare.record.wrong_canaries", (r) => r.wrong_canaries, "count"],
];

const Records = ({ comparison }: { comparison: Comparison }) => {
  const t = useTexts();
  const n = useNumbers();
  const both = [comparison.first, comparison.second];
  const verdicts = (record: VersionRecord) => Object.entries(record.verdicts).map(([kind, count]) => `${kind} ${n(count)}`).join(", ") || "–";
  return (
    <DataTable label={t("compare.records")} columns={[{ label: "" }, ...both.map((record) => ({ label: record.label, isNumber: true }))]}
      rows={[
        { key: "role", cells: [t("field.role"), ...both.map((record) => <RoleMark key={record.label} role={record.role} />)] },
        ...RECORD.map(([key, pick, kind]) => ({ key, cells: [t(key), ...both.map((record) => n(pick(record), kind))] })),
        { key: "verdicts", cells: [t("compare.record.verdicts"), ...both.map(verdicts)] },
      ]} />
  );
};

const Labelled = ({ comparison }: { comparison: Comparison }) => {
  const t = useTexts();
  const n = useNumbers();
  const { labelled } = comparison;
  if (!labelled) return <Empty title={t("compare.no_labels")}>{t("compare.no_labels_do")}</Empty>;
  const interval = (figure: Interval) =>
    figure.value === null ? "–" : `${n(figure.value, "number")} [${n(figure.low, "number")}; ${n(figure.high, "number")}]`;
  const rows: [Key, (record: LabelledRecord) => string][] = [
    ["compare.precision", (r) => interval(r.precision)],
    ["compare.recall", (r) => interval(r.recall)],
    ["compare.f1", (r) => interval(r.f1)],
    ["compare.average_precision", (r) => interval(r.average_precision)],
    ["compare.confusion", (r) => `${n(r.true_positives)} / ${n(r.false_positives)}`],
    ["compare.negatives", (r) => `${n(r.false_negatives)} / ${n(r.true_negatives)}`],
  ];
  return (
    <Stack gap={2}>
      <Box fontSize="sm" color="fg.muted">{t("compare.labelled_note", { units: n(labelled.units), positives: n(labelled.positives) })}</Box>
      <DataTable label={t("compare.labelled")} columns={[{ label: "" }, { label: comparison.first.label, isNumber: true }, { label: comparison.second.label, isNumber: true }]}
        rows={rows.map(([key, show]) => ({ key, cells: [t(key), show(labelled.first), show(labelled.second)] }))} />
      <Box fontSize="sm">{t("compare.discordant", { wins: n(labelled.only_second_right), losses: n(labelled.only_first_right) })}</Box>
    </Stack>
  );
};

const Curve = ({ comparison }: { comparison: Comparison }) => {
  const t = useTexts();
  const n = useNumbers();
  const { gate } = comparison;
  if (!gate) return null;
  const threshold = -Math.log10(gate.alpha);
  return (
    <Card title={t("compare.curve")} aside={<Mark tone={gate.has_passed ? "ok" : "attention"}>{t(gate.has_passed ? "compare.passed" : "compare.not_passed")}</Mark>}>
      <LineChart title={t("compare.curve_pairs")} xLabel={t("compare.curve_pairs")} at={gate.curve.map(([pairs]) => pairs)}
        format={(value) => n(value, "number")} threshold={{ value: threshold, label: t("compare.threshold", { value: n(threshold, "number") }) }}
        lines={[{ label: "log10 E", values: gate.curve.map(([, log_e]) => log_e / Math.LN10) }]} />
      {!gate.has_passed && gate.more_labels !== null && <Box fontSize="sm" mt={1}>{t("compare.more_labels", { count: n(gate.more_labels) })}</Box>}
    </Card>
  );
};

const TONES = { passed: "ok", failed: "bad", unknown: "attention" } as const;

const Decision = ({ comparison }: { comparison: Comparison }) => {
  const t = useTexts();
  const n = useNumbers();
  const { decision } = comparison;
  if (!decision) return null;
  return (
    <Card title={t("compare.decision")} aside={<Mark tone={decision.has_passed ? "ok" : "attention"}>{t(decision.has_passed ? "compare.decision_passed" : "compare.decision_failed")}</Mark>}>
      <DataTable label={t("compare.decision")}
        columns={[{ label: t("compare.condition") }, { label: t("field.status") }, { label: t("compare.figure"), isNumber: true }, { label: t("compare.bound") }, { label: t("field.reason") }]}
        rows={decision.conditions.map((condition) => ({
          key: condition.name,
          cells: [
            condition.name, <Mark key="s" tone={TONES[condition.state]}>{t(`condition.${condition.state}`)}</Mark>,
            condition.figure === null ? "–" : `${n(condition.figure, "number")} ${condition.unit}`, condition.bound, <Text key="r" value={condition.reason} max={240} />,
          ],
        }))} />
    </Card>
  );
};

const SHOWN = ["entity_id", "score"]; // they have columns of their own

type Both = { first: string; second: string; start: string; end: string };

const Entities = ({ both, cycle_id }: { both: Both; cycle_id: string }) => {
  const t = useTexts();
  const n = useNumbers();
  const [prefix, setPrefix] = useState("");
  const [onlyFlips, setOnlyFlips] = useState(false);
  const loaded = usePages<DifferingEntity>(route("compare/entities", { ...both, q: prefix.trim(), only: onlyFlips ? "flips" : "", limit: 20 }));
  const label = (value: boolean | null) => value === null ? "–" : <Mark tone={value ? "ok" : "none"}>{t(value ? "label.true" : "label.false")}</Mark>;
  return (
    <Card title={t("compare.entities")}>
      <Flex gap={4} wrap="wrap" align="flex-end" mb={3}>
        <TextField label={t("findings.prefix")} value={prefix} onChange={setPrefix} />
        <Checkbox.Root checked={onlyFlips} onCheckedChange={(details) => { setOnlyFlips(details.checked === true); }} size="sm" pb={2}>
          <Checkbox.HiddenInput /><Checkbox.Control /><Checkbox.Label>{t("compare.only_flips")}</Checkbox.Label>
        </Checkbox.Root>
      </Flex>
      <Ready loaded={loaded}>
        {(rows) => rows.length === 0 ? <Empty title={t("compare.no_entities")} /> : (
          <DataTable label={t("compare.entities")} more={loaded.more} isLoading={loaded.isLoading}
            columns={[
              { label: t("field.entity"), isShort: true }, { label: t("field.at") }, { label: both.first, isNumber: true }, { label: both.second, isNumber: true },
              { label: t("field.label") }, { label: `${t("field.evidence")} ${both.first}` }, { label: `${t("field.evidence")} ${both.second}` },
            ]}
            rows={rows.map((row) => ({
              key: `${row.entity_id} ${row.at}`,
              cells: [
                <PageLink key="e" to={links.entity(row.entity_id, cycle_id)}><Id value={row.entity_id} max={40} /></PageLink>, <Instant key="a" at={row.at} />,
                n(row.first_score, "score"), n(row.second_score, "score"), label(row.label),
                <Evidence key="f" values={row.first_outputs} without={SHOWN} />, <Evidence key="s" values={row.second_outputs} without={SHOWN} />,
              ],
            }))} />
        )}
      </Ready>
    </Card>
  );
};

const Result = ({ range, first, second }: { range: Range; first: string; second: string }) => {
  const t = useTexts();
  const [read] = useAddress();
  const both = { first, second, start: range.start, end: range.end };
  const replays = read("replays") !== "false";
  const loaded = useApi<Comparison>(route("compare", { ...both, replays, known_at: read("known_at") }));
  return (
    <Ready loaded={loaded} busy={t("compare.computing")}>
      {(comparison) => comparison.cycles === 0 ? <Empty title={t("compare.none")}>{t("compare.none_do")}</Empty> : (
        <Stack gap={4}>
          <Card title={`${first} – ${second}`} aside={comparison.second.role === "PRIMARY" ? null : <PromotionForm label={second} />}><Agreement comparison={comparison} /></Card>
          <Card title={t("compare.labelled")}><Labelled comparison={comparison} /></Card>
          <Curve comparison={comparison} />
          <Decision comparison={comparison} />
          <Card title={t("compare.records")}><Records comparison={comparison} /></Card>
          <Entities both={both} cycle_id={comparison.cycle_id} />
        </Stack>
      )}
    </Ready>
  );
};

/** Two versions of a model: how often they agree, where they differ, who was right. */
export const Compare = () => {
  const t = useTexts();
  const [read, change] = useAddress();
  const overview = useApi<Overview>(route("overview"));
  const [first, second] = [read("first"), read("second")];
  const model_id = read("model") || splitLabel(first || second).model;
  const model = useApi<Model>(model_id ? route(`models/${encodeURIComponent(model_id)}`) : null);
  const cycle = overview.data?.cycles.find((item) => item.cycle_id === model.data?.cycle_id);
  const range = useRange(cycle?.newest);
  const models = [...new Set([...(model_id ? [model_id] : []), ...(overview.data?.models ?? []).map((item) => item.model_id)])];
  const nothing = { value: "", label: "…" };
  const versions = (chosen: string) => {
    const labels = model.data?.versions.map((version) => version.label) ?? [];
    return [...(chosen ? [] : [nothing]), ...new Set([...(chosen ? [chosen] : []), ...labels])].map((item) => typeof item === "string" ? { value: item, label: item } : item);
  };
  return (
    <Stack gap={4}>
      <Flex gap={3} wrap="wrap" align="flex-end">
        <Choose label={t("field.model")} value={model_id} choices={[...(model_id ? [] : [nothing]), ...models.map((value) => ({ value, label: value }))]}
          onChange={(value) => {
            const row = overview.data?.models.find((item) => item.model_id === value);
            change({ model: value, first: row?.champion?.label ?? "", second: row?.others[0]?.label ?? "" });
          }} />
        <Choose label={t("compare.first")} value={first} choices={versions(first)} onChange={(value) => { change({ first: value }); }} width="14rem" />
        <Choose label={t("compare.second")} value={second} choices={versions(second)} onChange={(value) => { change({ second: value }); }} width="14rem" />
        <RangeFields range={range} />
        <Checkbox.Root checked={read("replays") !== "false"} onCheckedChange={(details) => { change({ replays: details.checked === true ? "" : "false" }); }} size="sm" pb={2}>
          <Checkbox.HiddenInput /><Checkbox.Control /><Checkbox.Label>{t("field.with_replays")}</Checkbox.Label>
        </Checkbox.Root>
      </Flex>
      {model.error && <Ready loaded={model}>{() => null}</Ready>}
      {(!first || !second) && <Empty title={t("compare.choose")}>{t("compare.choose_do")}</Empty>}
      {first && second && (model.isLoading || overview.isLoading) && <Loading />}
      {first && second && model.data && !overview.isLoading && <Result range={range} first={first} second={second} />}
    </Stack>
  );
};
