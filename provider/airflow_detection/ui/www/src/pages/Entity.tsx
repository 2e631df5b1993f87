import { Box, Button, chakra, Field, Flex, Image, RadioGroup, Stack, Textarea } from "@chakra-ui/react";
import { type SyntheticEvent, useState } from "react";

import { post, route } from "../api/client";
import type { Entity as Answer, FoundEntities, Overview } from "../api/types";
import { useApi } from "../api/useApi";
import { LineChart } from "../charts/LineChart";
import { Ask } from "../components/Ask";
import { Card } from "../components/Card";
import { DataTable } from "../components/DataTable";
import { Evidence } from "../components/Evidence";
import { Choose, TextField, TimeField } from "../components/Fields";
import { Instant } from "../components/Instant";
import { Mark } from "../components/Mark";
import { PageLink } from "../components/PageLink";
import { type Range, RangeFields, useRange } from "../components/Range";
import { Empty, Loading, Ready } from "../components/States";
import { Id, Text } from "../components/Text";
import { useAddress } from "../components/useAddress";
import { shifted } from "../format/instants";
import { useNumbers } from "../format/numbers";
import { links, splitLabel } from "../links";
import { useTexts } from "../locales";
import { EventTable } from "./EventTable";

/** Lines over the union of their instants, ascending. */
export const aligned = (scores: Answer["scores"]): { at: string[]; values: (number | null)[][] } => {
  const at = [...new Set(scores.flatMap((line) => line.at))].sort();
  const places = new Map(at.map((instant, n) => [instant, n]));
  const values = scores.map((line) => {
    const row = new Array<number | null>(at.length).fill(null);
    line.at.forEach((instant, n) => { row[places.get(instant) ?? 0] = line.score[n] ?? null; });
    return row;
  });
  return { at, values };
};

const AddLabel = ({ entity, cycle_id, models, range, changed }: {
  entity: string; cycle_id: string; models: string[]; range: Range; changed: () => void;
}) => {
  const t = useTexts();
  const [isPositive, setPositive] = useState<string | null>(null);
  const [model, setModel] = useState("");
  const [span, setSpan] = useState({ start: shifted(range.end, -1), end: range.end });
  const [note, setNote] = useState("");
  return (
    <Ask label={t("entity.add_label")} title={`${t("entity.add_label")}: ${entity.slice(0, 60)}`} sendLabel={t("entity.add_label")} done={changed}
      canSend={isPositive !== null && span.start !== "" && span.start < span.end}
      send={async () => {
        await post(route("labels"), {
          cycle_id, model_id: model || null, entity_id: entity, is_positive: isPositive === "true", ...span, source: "ui", note,
        });
        return <Box role="status">{t("entity.label_added")}</Box>;
      }}>
      <RadioGroup.Root value={isPositive} onValueChange={(details) => { setPositive(details.value); }} aria-label={t("entity.verdict")}>
        <Stack gap={1}>
          {(["true", "false"] as const).map((value) => (
            <RadioGroup.Item key={value} value={value}>
              <RadioGroup.ItemHiddenInput /><RadioGroup.ItemIndicator />
              <RadioGroup.ItemText>{t(value === "true" ? "entity.positive" : "entity.negative")}</RadioGroup.ItemText>
            </RadioGroup.Item>
          ))}
        </Stack>
      </RadioGroup.Root>
      <Choose label={t("field.model")} value={model} onChange={setModel} choices={[{ value: "", label: t("entity.all_models") }, ...models.map((value) => ({ value, label: value }))]} />
      <Flex gap={3} wrap="wrap">
        <TimeField label={t("field.start")} at={span.start} onChange={(start) => { setSpan({ ...span, start }); }} />
        <TimeField label={t("field.end")} at={span.end} onChange={(end) => { setSpan({ ...span, end }); }} />
      </Flex>
      <Field.Root>
        <Field.Label>{t("field.note")}</Field.Label>
        <Textarea rows={2} dir="auto" value={note} onChange={(event) => { setNote(event.target.value); }} />
      </Field.Root>
    </Ask>
  );
};

const Labels = ({ labels }: { labels: Answer["labels"] }) => {
  const t = useTexts();
  if (labels.length === 0) return <Empty title={t("entity.no_labels")}>{t("entity.no_labels_do")}</Empty>;
  return (
    <DataTable label={t("entity.labels")}
      columns={[{ label: t("field.label") }, { label: t("field.model") }, { label: t("field.start") }, { label: t("field.end") }, { label: t("entity.known") }, { label: t("field.source") }, { label: t("field.who") }, { label: t("field.note") }]}
      rows={labels.map((label, n) => ({
        key: n,
        cells: [
          <Mark key="p" tone={label.is_positive ? "ok" : "none"}>{t(label.is_positive === null ? "label.withdrawn" : label.is_positive ? "label.true" : "label.false")}</Mark>,
          <Id key="m" value={label.model_id ?? t("entity.all_models")} />, <Instant key="s" at={label.start} />, <Instant key="e" at={label.end} />, <Instant key="k" at={label.known_at} />,
          <Text key="o" value={label.source} max={60} />, <Text key="w" value={label.actor} max={60} />, <Text key="n" value={label.note} max={160} />,
        ],
      }))} />
  );
};

/** All of one entity: in the range that the address names, else in the day up to its newest output. */
const Details = ({ entity, cycle_id, overview }: { entity: string; cycle_id: string; overview: Overview }) => {
  const t = useTexts();
  const n = useNumbers();
  const [read] = useAddress();
  const asked = useRange(null);
  const isAsked = read("end") !== "";
  const span = isAsked ? { start: asked.start, end: asked.end } : {};
  const loaded = useApi<Answer>(route(`entities/${encodeURIComponent(entity)}`, { cycle_id, ...span }));
  const models = overview.models.filter((model) => model.cycle_id === cycle_id).map((model) => model.model_id);
  const mayEdit = overview.may_edit.includes(cycle_id);
  return (
    <Ready loaded={loaded}>
      {(data) => {
        const { at, values } = aligned(data.scores);
        const range = isAsked ? asked : { start: data.start, end: data.end, hours: "24" };
        return (
          <Stack gap={4}>
            <Card title={t("entity.scores")} aside={<Flex gap={3} wrap="wrap"><RangeFields range={range} /></Flex>}>
              {at.length === 0 ? <Empty title={t("entity.no_scores")}>{t("model.no_series_do")}</Empty> : (
                <LineChart title={t("entity.scores")} at={at} height={240} format={(value) => n(value, "number")}
                  lines={data.scores.map((line, place) => ({ label: line.is_replay ? t("chart.replay", { label: line.label }) : line.label, values: values[place] ?? [], isDashed: line.is_replay || line.role !== "PRIMARY" }))} />
              )}
              {data.complete_from > data.start && (
                <Box fontSize="sm" color="fg.muted">{t("entity.complete_from")} <Instant at={data.complete_from} /></Box>
              )}
            </Card>
            {data.drawings.map((drawing) => (
              <Card key={drawing.name} title={drawing.title}>
                <Image src={new URL(drawing.href, document.baseURI).href} alt={drawing.title} maxW="100%" loading="lazy" />
              </Card>
            ))}
            <Card title={t("entity.latest")}>
              {data.latest.length === 0 ? <Empty title={t("entity.no_scores")} /> : (
                <DataTable label={t("entity.latest")} columns={[{ label: t("field.version") }, { label: t("field.at") }, { label: t("field.score"), isNumber: true }, { label: t("field.evidence") }]}
                  rows={data.latest.map((row) => ({
                    key: row.label,
                    cells: [
                      <Box key="m" whiteSpace="nowrap"><PageLink to={links.model(splitLabel(row.label).model)}><Id value={row.label} /></PageLink></Box>, <Instant key="a" at={row.at} />, n(row.score, "score"), <Evidence key="o" values={row.outputs} without={["entity_id", "score"]} />,
                    ],
                  }))} />
              )}
            </Card>
            <Card title={t("entity.events")}>
              {data.events.length === 0 ? <Empty title={t("entity.no_events")} /> : <EventTable events={data.events} mayEdit={overview.may_edit} changed={loaded.reload} />}
            </Card>
            <Card title={t("entity.labels")} aside={mayEdit ? <AddLabel entity={entity} cycle_id={cycle_id} models={models} range={range} changed={loaded.reload} /> : null}>
              <Labels labels={data.labels} />
            </Card>
          </Stack>
        );
      }}
    </Ready>
  );
};

const Search = ({ cycle_id }: { cycle_id: string }) => {
  const t = useTexts();
  const [read, change] = useAddress();
  const [typed, setTyped] = useState(read("q") || read("entity"));
  const q = read("q");
  const found = useApi<FoundEntities>(q && cycle_id ? route("entities", { q, cycle_id }) : null);
  const submit = (event: SyntheticEvent) => {
    event.preventDefault();
    change({ q: typed.trim(), entity: "" });
  };
  return (
    <Stack gap={3}>
      <chakra.form onSubmit={submit} role="search">
        <Flex gap={3} align="flex-end" wrap="wrap">
          <TextField label={t("entity.id")} value={typed} onChange={setTyped} width="18rem" />
          <Button type="submit" size="sm" variant="outline" disabled={typed.trim() === ""}>{t("field.search")}</Button>
        </Flex>
      </chakra.form>
      {q && !read("entity") && (
        <Ready loaded={found}>
          {(data) => data.items.length === 0 ? <Empty title={t("entity.no_match")}>{t("entity.choose_do")}</Empty> : (
            <Flex as="ul" gap={3} wrap="wrap" p={0} m={0} listStyleType="none">
              {data.items.map((item) => <li key={item.entity_id}><PageLink to={links.entity(item.entity_id, cycle_id)}><Id value={item.entity_id} /></PageLink></li>)}
            </Flex>
          )}
        </Ready>
      )}
    </Stack>
  );
};

/** All that is known of one id. */
export const Entity = () => {
  const t = useTexts();
  const [read, change] = useAddress();
  const overview = useApi<Overview>(route("overview"));
  const cycles = overview.data?.cycles ?? [];
  const cycle_id = read("cycle") || (cycles[0]?.cycle_id ?? "");
  const entity = read("entity");
  return (
    <Stack gap={4}>
      <Flex gap={3} wrap="wrap" align="flex-end">
        {cycles.length > 1 && <Choose label={t("field.cycle")} value={cycle_id} choices={cycles.map((cycle) => ({ value: cycle.cycle_id, label: cycle.cycle_id }))} onChange={(cycle) => { change({ cycle }); }} />}
        <Search key={entity} cycle_id={cycle_id} />
      </Flex>
      {!entity && !read("q") && <Empty title={t("entity.choose")}>{t("entity.choose_do")}</Empty>}
      {overview.error && <Ready loaded={overview}>{() => null}</Ready>}
      {entity && overview.isLoading && <Loading />}
      {entity && overview.data && (
        <>
          <chakra.h2 fontSize="xl" fontWeight="semibold" overflowWrap="anywhere"><Id value={entity} max={200} /></chakra.h2>
          <Details entity={entity} cycle_id={cycle_id} overview={overview.data} />
        </>
      )}
    </Stack>
  );
};
