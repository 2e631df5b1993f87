import { Box, Flex, Stack } from "@chakra-ui/react";

import { route } from "../api/client";
import type { CycleRow, CycleRun, Overview, Plan } from "../api/types";
import { useApi, usePages } from "../api/useApi";
import { PlanGraph } from "../charts/PlanGraph";
import { Card } from "../components/Card";
import { DataTable } from "../components/DataTable";
import { Choose, TimeField } from "../components/Fields";
import { Instant } from "../components/Instant";
import { Mark, Outcome, RoleMark, Verdict } from "../components/Mark";
import { PageLink } from "../components/PageLink";
import { Empty, Loading, Problem, Ready } from "../components/States";
import { Id, Text } from "../components/Text";
import { toneOfOutcome } from "../components/theme";
import { useAddress } from "../components/useAddress";
import { instant, useZone } from "../format/instants";
import { useNumbers } from "../format/numbers";
import { links } from "../links";
import { useTexts } from "../locales";

const Manifests = ({ run }: { run: CycleRun }) => {
  const t = useTexts();
  const n = useNumbers();
  if (run.manifests.length === 0) return <Empty title={t("cycle.no_manifests")} />;
  return (
    <DataTable label={t("cycle.manifests")}
      columns={[
        { label: t("field.version") }, { label: t("field.role") }, { label: t("field.outcome") }, { label: t("field.verdict") },
        { label: t("field.inputs"), isNumber: true }, { label: t("field.outputs"), isNumber: true }, { label: t("field.flagged"), isNumber: true },
        { label: t("field.duration"), isNumber: true }, { label: t("field.reason") }, { label: t("cycle.findings"), isShort: true },
      ]}
      rows={run.manifests.map((m) => ({
        key: `${m.version.label} ${m.is_replay}`, tone: toneOfOutcome(m.outcome) === "bad" ? "bad" : null,
        cells: [
          <PageLink key="v" to={links.model(m.version.model_id)}><Id value={m.version.label} /></PageLink>,
          <Flex key="r" gap={1} wrap="wrap"><RoleMark role={m.version.role} />{m.is_replay && <Mark tone="none">{t("cycle.replay")}</Mark>}</Flex>,
          <Outcome key="o" outcome={m.outcome} />, <Verdict key="d" kind={m.verdict} />,
          n(m.input_count), n(m.output_count), n(m.flagged),
          <span key="t" title={Object.entries(m.stage_ms).map(([stage, ms]) => `${stage} ${n(ms, "ms")}`).join(", ")}>{n(m.duration_ms, "ms")}</span>,
          <Stack key="w" gap={1}>{m.error && <Text value={m.error} max={200} />}{m.reasons.map((reason) => <Text key={reason} value={reason} max={160} />)}</Stack>,
          <PageLink key="f" to={links.findings(m.version.model_id, m.version.version, run.at, m.is_replay)} label={`${t("cycle.findings")} ${m.version.label}`}>{t("cycle.findings")}</PageLink>,
        ],
      }))} />
  );
};

const Inputs = ({ inputs }: { inputs: CycleRun["inputs"] }) => {
  const t = useTexts();
  const n = useNumbers();
  if (inputs.length === 0) return <Empty title={t("cycle.no_inputs")} />;
  return (
    <DataTable label={t("cycle.inputs")}
      columns={[{ label: t("field.model") }, { label: t("cycle.rows"), isNumber: true }, { label: t("cycle.newest") }, { label: t("cycle.freshness"), isNumber: true }, { label: t("cycle.digest") }]}
      rows={inputs.map((input) => ({
        key: input.model_id,
        cells: [<Id key="m" value={input.model_id} />, n(input.rows), <Instant key="n" at={input.newest} />, n(input.freshness_s, "seconds"), <Text key="d" value={input.digest ?? "–"} max={16} mono />],
      }))} />
  );
};

const PlanCard = ({ plan, run }: { plan: Plan; run: CycleRun | null }) => {
  const t = useTexts();
  const zone = useZone();
  return (
    <Card title={t("cycle.plan")} note={`${t("cycle.plan_as_of", { at: instant(plan.at, zone), known: instant(plan.known_at, zone) })}. ${t("cycle.plan_note")}`}>
      {plan.nodes.length === 0 ? <Empty title={t("cycle.empty_plan")} /> : <PlanGraph plan={plan} manifests={run?.manifests ?? []} />}
    </Card>
  );
};

/** What ran in one cycle, around its plan. */
const RunDetails = ({ run }: { run: CycleRun }) => {
  const t = useTexts();
  const replays = run.manifests.filter((manifest) => manifest.is_replay);
  return (
    <Stack gap={4}>
      <PlanCard plan={run.plan} run={run} />
      <Card title={t("cycle.manifests")}><Manifests run={{ ...run, manifests: run.manifests.filter((manifest) => !manifest.is_replay) }} /></Card>
      {replays.length > 0 && <Card title={t("cycle.replays")}><Manifests run={{ ...run, manifests: replays }} /></Card>}
      <Card title={t("cycle.inputs")}><Inputs inputs={run.inputs} /></Card>
    </Stack>
  );
};

const Runs = ({ cycle_id, dag_id, at }: { cycle_id: string; dag_id: string; at: string }) => {
  const t = useTexts();
  const n = useNumbers();
  const loaded = usePages<CycleRow>(route(`cycles/${encodeURIComponent(cycle_id)}/runs`, { limit: 12 }));
  return (
    <Card title={t("cycle.runs")}>
      <Ready loaded={loaded}>
        {(rows) => rows.length === 0 ? <Empty title={t("cycle.no_runs")}>{t("cycle.no_runs_do", { dag: dag_id })}</Empty> : (
          <DataTable label={t("cycle.runs")} more={loaded.more} isLoading={loaded.isLoading}
            columns={[{ label: t("field.at") }, { label: t("field.outcome") }, { label: t("field.inputs"), isNumber: true }, { label: t("field.replays"), isNumber: true }, { label: t("cycle.mode") }, { label: t("field.dag") }]}
            rows={rows.map((row) => ({
              key: `${row.cycle_started_at} ${row.mode}`, tone: "FAILED" in row.outcomes ? "bad" : null,
              cells: [
                <Box key="a" aria-current={Date.parse(row.cycle_started_at) === Date.parse(at) ? "true" : undefined}><PageLink to={links.cycle(cycle_id, row.cycle_started_at)}><Instant at={row.cycle_started_at} /></PageLink></Box>,
                <Flex key="o" gap={1} wrap="wrap">{Object.entries(row.outcomes).map(([outcome, count]) => <Box key={outcome} whiteSpace="nowrap"><Outcome outcome={outcome} /> {n(count)}</Box>)}</Flex>,
                n(row.inputs), n(row.replays), row.mode,
                row.run_id ? <PageLink key="r" to={links.run(dag_id, row.run_id)}><Id value={row.run_id} max={50} /></PageLink> : "–",
              ],
            }))} />
        )}
      </Ready>
    </Card>
  );
};

/** A cycle at an instant: what ran then; where nothing did, or `known_at` is asked, the plan as of it. */
const CycleAt = ({ cycle_id, dag_id, newest }: { cycle_id: string; dag_id: string; newest: string | null }) => {
  const t = useTexts();
  const [read, change] = useAddress();
  const at = read("at") || (newest ?? "");
  const known_at = read("known_at");
  const path = `cycles/${encodeURIComponent(cycle_id)}`;
  const run = useApi<CycleRun>(at && !known_at ? route(`${path}/runs/${encodeURIComponent(at)}`) : null);
  const isMissing = run.error?.status === 404;
  const plan = useApi<Plan>(!at || known_at || isMissing ? route(`${path}/plan`, { at, known_at }) : null);
  return (
    <Stack gap={4}>
      <Flex gap={3} wrap="wrap" align="flex-end">
        <TimeField label={t("cycle.as_of")} at={at} onChange={(value) => { change({ at: value }); }} />
        <TimeField label={t("cycle.known_at")} at={known_at} onChange={(value) => { change({ known_at: value }); }} />
        {read("at") && newest && <PageLink to={links.cycle(cycle_id)}>{t("cycle.latest")}</PageLink>}
      </Flex>
      {run.error && !isMissing && <Problem error={run.error} retry={run.reload} />}
      {run.isLoading && <Loading />}
      {run.data && <RunDetails run={run.data} />}
      {isMissing && <Empty title={t("cycle.no_manifests")}>{run.error?.detail}</Empty>}
      <Ready loaded={plan}>{(data) => <PlanCard plan={data} run={null} />}</Ready>
      <Runs cycle_id={cycle_id} dag_id={dag_id} at={at} />
    </Stack>
  );
};

/** The tab Cycle of the page Detection. */
export const Cycle = () => {
  const t = useTexts();
  const [read, change] = useAddress();
  const overview = useApi<Overview>(route("overview"));
  return (
    <Ready loaded={overview}>
      {(data) => {
        const cycle = data.cycles.find((item) => item.cycle_id === read("cycle")) ?? (read("cycle") ? undefined : data.cycles[0]);
        return (
          <Stack gap={4}>
            <Choose label={t("field.cycle")} value={cycle?.cycle_id ?? ""} onChange={(value) => { change({ cycle: value, at: "" }); }}
              choices={[...(cycle ? [] : [{ value: "", label: "…" }]), ...data.cycles.map((item) => ({ value: item.cycle_id, label: item.cycle_id }))]} />
            {cycle ? <CycleAt key={cycle.cycle_id} cycle_id={cycle.cycle_id} dag_id={cycle.dag_id} newest={cycle.newest} /> : <Empty title={t("cycle.choose")}>{t("cycle.choose_do")}</Empty>}
          </Stack>
        );
      }}
    </Ready>
  );
};

/** The tab of a Dag: its newest cycle, or the one that the address names. */
export const CycleOfDag = ({ dagId }: { dagId: string }) => {
  const t = useTexts();
  const overview = useApi<Overview>(route("overview"));
  return (
    <Ready loaded={overview}>
      {(data) => {
        const cycle = data.cycles.find((item) => item.dag_id === dagId);
        return cycle ? <CycleAt cycle_id={cycle.cycle_id} dag_id={dagId} newest={cycle.newest} /> : <Empty title={t("cycle.not_ours")} />;
      }}
    </Ready>
  );
};

/** The tab of a run of a Dag. */
export const CycleOfRun = ({ dagId, runId }: { dagId: string; runId: string }) => {
  const loaded = useApi<CycleRun>(route(`dag_runs/${encodeURIComponent(dagId)}/${encodeURIComponent(runId)}`));
  if (loaded.error?.status === 404) return <Empty title={loaded.error.detail} />;
  return <Ready loaded={loaded}>{(run) => <RunDetails run={run} />}</Ready>;
};
