import { defineConfig } from "vitest/config";

/** What Airflow's own UI shares with its plugins, and the global that it is under. */
const HOST = {
  react: "React",
  "react-dom": "ReactDOM",
  "react/jsx-runtime": "ReactJSXRuntime",
  "react-router-dom": "ReactRouterDOM",
  "@chakra-ui/react": "ChakraUI",
  "@emotion/react": "EmotionReact",
};

export default defineConfig({
  build: {
    outDir: "../static",
    emptyOutDir: false,
    target: "es2022",
    reportCompressedSize: true,
    lib: { entry: "src/main.tsx", formats: ["iife"], name: "DetectionPages", fileName: () => "detection.js" },
    rollupOptions: { external: Object.keys(HOST), output: { globals: HOST } },
  },
  test: { environment: "jsdom", include: ["tests/**/*.test.{ts,tsx}"] },
});
