import preact from "@preact/preset-vite";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [preact({ devToolsEnabled: false, prefreshEnabled: false })],
  base: "/studio/",
  build: {
    outDir: "../src/unclip/serve/studio",
    emptyOutDir: true,
    modulePreload: { polyfill: false }, // the polyfill is an inline script, which the policy refuses
    assetsInlineLimit: 0,
    rollupOptions: {
      output: { entryFileNames: "studio.js", assetFileNames: "[name][extname]", chunkFileNames: "[name].js" },
    },
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8000", "/health": "http://127.0.0.1:8000" } },
});
