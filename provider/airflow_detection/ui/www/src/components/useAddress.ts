import { useCallback } from "react";
import { useSearchParams } from "react-router-dom";

/** What the address of the page says, and a function that changes it: `""` takes a name away. */
export const useAddress = (): [(name: string) => string, (changes: Record<string, string>) => void] => {
  const [params, setParams] = useSearchParams();
  const change = useCallback(
    (changes: Record<string, string>) => {
      setParams((before) => {
        const after = new URLSearchParams(before);
        for (const [name, value] of Object.entries(changes)) {
          if (value === "") after.delete(name);
          else after.set(name, value);
        }
        return after;
      });
    },
    [setParams],
  );
  return [(name) => params.get(name) ?? "", change];
};
