import { Alert, Box, Field, Flex, Input, Stack, Textarea } from "@chakra-ui/react";
import { useState } from "react";

import { post } from "../api/client";
import { useApi } from "../api/useApi";
import { Ask } from "../components/Ask";
import { PageLink } from "../components/PageLink";
import { Empty, Loading } from "../components/States";
import { links } from "../links";
import { useTexts } from "../locales";

const DAG = "detection_promotion";
const DAG_URL = `api/v2/dags/${DAG}`;
const WATCH_HOURS = "24";

type Form = { reason: string; hours: string };

/** The fields of the request, and what the Dag is like: absent, or paused. */
const Fields = ({ form, change }: { form: Form; change: (form: Form) => void }) => {
  const t = useTexts();
  const dag = useApi<{ is_paused: boolean }>(DAG_URL);
  if (dag.isLoading) return <Loading />;
  if (dag.error) return <Empty title={t("promotion.missing")}>{t("promotion.missing_do")}</Empty>;
  return (
    <Stack gap={3}>
      {dag.data?.is_paused && (
        <Alert.Root status="warning">
          <Alert.Indicator />
          <Alert.Description color="fg">{t("promotion.paused")} <PageLink color="fg" to={links.dag(DAG)}>{t("promotion.dag")}</PageLink></Alert.Description>
        </Alert.Root>
      )}
      <Field.Root required>
        <Field.Label>{t("promotion.reason")}</Field.Label>
        <Textarea rows={3} dir="auto" value={form.reason} onChange={(event) => { change({ ...form, reason: event.target.value }); }} />
        <Field.HelperText>{t("promotion.reason_help")}</Field.HelperText>
      </Field.Root>
      <Field.Root>
        <Field.Label>{t("promotion.watch")}</Field.Label>
        <Input type="number" min={0} max={744} step="any" width="8rem" value={form.hours} onChange={(event) => { change({ ...form, hours: event.target.value }); }} />
        <Field.HelperText>{t("promotion.watch_help")}</Field.HelperText>
      </Field.Root>
    </Stack>
  );
};

/** A button that asks for a promotion: it starts the Dag through Airflow's own API, in the user's name. */
export const PromotionForm = ({ label }: { label: string }) => {
  const t = useTexts();
  const [form, setForm] = useState<Form>({ reason: "", hours: WATCH_HOURS });
  const hours = Number(form.hours);
  const isValid = form.reason.trim() !== "" && form.hours !== "" && hours >= 0 && hours <= 744;
  return (
    <Ask size="sm" label={t("promotion.ask")} title={t("promotion.title", { label })} explain={t("promotion.explain")} sendLabel={t("promotion.send")} canSend={isValid}
      send={async () => {
        const run = await post<{ dag_run_id: string }>(`${DAG_URL}/dagRuns`, {
          logical_date: null,
          conf: { version: label, reason: form.reason.trim(), watch_hours: hours },
        });
        return (
          <Box role="status">
            <Box>{t("promotion.sent")}</Box>
            <Flex mt={2}><PageLink to={links.run(DAG, run.dag_run_id)}>{t("promotion.run")}</PageLink></Flex>
          </Box>
        );
      }}>
      <Fields form={form} change={setForm} />
    </Ask>
  );
};
