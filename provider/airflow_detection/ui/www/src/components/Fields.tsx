import { Field, Input, NativeSelect } from "@chakra-ui/react";

import { fromField, toField, useZone } from "../format/instants";

export type Choice = { value: string; label: string };

export const Choose = ({ label, value, choices, onChange, width = "12rem" }: {
  label: string; value: string; choices: Choice[]; onChange: (value: string) => void; width?: string;
}) => (
  <Field.Root w={width} maxW="100%">
    <Field.Label fontSize="xs" color="fg.muted">{label}</Field.Label>
    <NativeSelect.Root size="sm">
      <NativeSelect.Field value={value} onChange={(event) => { onChange(event.target.value); }}>
        {choices.map((choice) => <option key={choice.value} value={choice.value}>{choice.label}</option>)}
      </NativeSelect.Field>
      <NativeSelect.Indicator />
    </NativeSelect.Root>
  </Field.Root>
);

export const TextField = ({ label, value, onChange, help, width = "14rem", type = "text" }: {
  label: string; value: string; onChange: (value: string) => void; help?: string; width?: string; type?: string;
}) => (
  <Field.Root w={width} maxW="100%">
    <Field.Label fontSize="xs" color="fg.muted">{label}</Field.Label>
    <Input size="sm" type={type} value={value} dir="auto" onChange={(event) => { onChange(event.target.value); }} />
    {help && <Field.HelperText fontSize="xs">{help}</Field.HelperText>}
  </Field.Root>
);

/** A time, shown and typed in the user's zone. */
export const TimeField = ({ label, at, onChange }: { label: string; at: string; onChange: (at: string) => void }) => {
  const zone = useZone();
  return (
    <TextField label={label} width="13rem" type="datetime-local" value={toField(at, zone)}
      onChange={(value) => { onChange(fromField(value, zone) ?? ""); }} />
  );
};
