import { Box, Button, Table } from "@chakra-ui/react";
import type { ReactNode } from "react";

import { useTexts } from "../locales";
import type { Tone } from "./theme";

/** `isShort`: its values stay on one line, as numbers do. */
export type Column = { label: string; isNumber?: boolean; isShort?: boolean; help?: string; width?: string };
export type Row = { key: string | number; cells: ReactNode[]; tone?: Tone | null };

/** A table that scrolls sideways where it is too wide, also by keyboard. */
export const DataTable = ({ label, columns, rows, more, isLoading = false, hasRowHeaders = true }: {
  label: string; columns: Column[]; rows: Row[]; more?: (() => void) | null; isLoading?: boolean; hasRowHeaders?: boolean;
}) => {
  const t = useTexts();
  return (
    <Box>
      <Table.ScrollArea tabIndex={0} role="region" aria-label={label} borderRadius="sm">
        <Table.Root size="sm" fontVariantNumeric="tabular-nums" aria-label={label}>
          <Table.Header>
            <Table.Row bg="transparent">
              {columns.map((column, n) => (
                <Table.ColumnHeader key={n} scope="col" textAlign={column.isNumber ? "end" : "start"} color="fg.muted" fontSize="xs" fontWeight="medium" title={column.help} width={column.width} verticalAlign="bottom">
                  {column.label}
                </Table.ColumnHeader>
              ))}
            </Table.Row>
          </Table.Header>
          <Table.Body>
            {rows.map((row) => {
              const isMarked = row.tone === "bad" || row.tone === "attention";
              return (
                <Table.Row key={row.key} bg="transparent">
                  {row.cells.map((cell, n) => (
                    <Table.Cell
                      key={n} verticalAlign="top" textAlign={columns[n]?.isNumber ? "end" : "start"} overflowWrap="anywhere"
                      whiteSpace={columns[n]?.isNumber || columns[n]?.isShort ? "nowrap" : "normal"} minW={columns[n]?.isNumber ? undefined : "4rem"}
                      borderInlineStartWidth={isMarked && n === 0 ? "4px" : undefined} borderInlineStartColor={isMarked && n === 0 ? (row.tone === "bad" ? "red.solid" : "orange.400") : undefined}
                      {...(hasRowHeaders && n === 0 ? { as: "th", scope: "row", fontWeight: "medium" } : {})}
                    >
                      {cell}
                    </Table.Cell>
                  ))}
                </Table.Row>
              );
            })}
          </Table.Body>
        </Table.Root>
      </Table.ScrollArea>
      {more && (
        <Button size="xs" variant="outline" mt={2} loading={isLoading} onClick={more}>{t("state.more")}</Button>
      )}
    </Box>
  );
};
